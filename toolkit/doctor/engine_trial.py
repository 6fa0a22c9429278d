"""An engine of an op's example, built with TensorRT for RTX, which needs no GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.helper import (
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_tensor_value_info,
    np_dtype_to_tensor_dtype,
)

from toolkit.doctor.check import Check, Status
from toolkit.doctor.op_trial import PartFault, Trial
from toolkit.doctor.self_test import source_of
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.process import run_build
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.settings import BuildSettings
from toolkit.errors import CheckFailed, InputError
from toolkit.ops.spec import DOMAIN, OPSET, VERSION, CustomOp, onnx_value
from toolkit.plugin.manager import PluginManager
from toolkit.storage.outputs import temporary_folder

CAPABILITY = "8.9"
PRECISIONS = {"FP32": TensorProto.FLOAT, "FP16": TensorProto.FLOAT16}


def check_engine(op: CustomOp) -> Check:
    """Build an engine of the op's example as a plugin in FP32 and FP16, in a process that loads the op's file.

    The engine is not run: that needs the GPU.
    """
    installed = [offered.name for _, offered in PluginManager.load().offered_custom_ops()]
    files = () if op.name in installed else (Path(source_of(op)),)
    try:
        trial = Trial.of(op)
        with temporary_folder("engine") as folder:
            onnx.save(engine_model(trial), folder / "model.onnx")
            settings = BuildSettings(Target.TENSORRT_RTX, capabilities=(CAPABILITY,))
            request = BuildRequest(folder / "model.onnx", folder / "model.engine", settings, plugin_files=files)
            sidecar = run_build(request, lambda phases: None)
    except (PartFault, InputError, CheckFailed) as error:
        return Check(op.name, Status.FAILED, str(error), f"mend plan, output_shape or types in {source_of(op)}")
    plugins = sum(plugin.nodes for plugin in sidecar.plugins)
    if plugins != len(PRECISIONS):
        return Check(op.name, Status.FAILED, f"the engine has {plugins} of its nodes as plugins, not {len(PRECISIONS)}")
    found = f"{settings.target.title} {sidecar.version} builds an engine with it in {' and '.join(PRECISIONS)}"
    return Check(op.name, Status.OK, found)


def engine_model(trial: Trial) -> ModelProto:
    """The example as two nodes: on its inputs, and on their casts to FP16 where the op's tensors share a type."""
    signature = trial.op.signature
    given = [(port, x) for port, x in zip(signature.inputs, trial.inputs, strict=True) if x is not None]
    attributes = {name: onnx_value(value) for name, value in trial.attributes.items()}
    nodes: list[NodeProto] = []
    outputs: list[ValueInfoProto] = []
    for precision, element in PRECISIONS.items():
        names = {port.name: port.name for port, _ in given}
        if element != TensorProto.FLOAT:
            for port, _ in given:
                if port.dtype is None:
                    names[port.name] = f"{port.name}_{precision}"
                    nodes.append(make_node("Cast", [port.name], [names[port.name]], to=element))
        results = [f"{port.name}_of_{precision}" for port in signature.outputs]
        inputs = [names.get(port.name, "") for port in signature.inputs]
        nodes.append(make_node(trial.op.name, inputs, results, precision, domain=DOMAIN, **attributes))
        for name, port, x in zip(results, signature.outputs, trial.expected, strict=True):
            kind = element if port.dtype is None else np_dtype_to_tensor_dtype(x.numpy().dtype)
            outputs.append(make_tensor_value_info(name, kind, x.shape))
    declared = [
        make_tensor_value_info(port.name, np_dtype_to_tensor_dtype(x.numpy().dtype), x.shape) for port, x in given
    ]
    opsets = [make_opsetid("", OPSET), make_opsetid(DOMAIN, VERSION)]
    return make_model(make_graph(nodes, "example", declared, outputs), ir_version=10, opset_imports=opsets)
