"""Builds engines of every case with TensorRT for RTX and writes what was seen, as JSON, to the file that is named.

A process of its own, because a failure in TensorRT can damage the memory of the one it happens in.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from tests.tensorrt.cases import CAPABILITIES, CASES, DTYPES, OPS, Case, open_ranges, write_model
from toolkit.engines.tensorrt.build import build_engine, parse_network, sizes
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.rtx import load_tensorrt_rtx
from toolkit.engines.tensorrt.settings import BuildSettings, ShapeRange
from toolkit.errors import InputError
from toolkit.ops.spec import OPSET, CustomOp
from toolkit.ops.tensorrt_fields import encode
from toolkit.ops.tensorrt_plugin import OpPlugin, OpPluginCreator, new_plugin, register_plugins


@contextmanager
def calls_noted() -> Iterator[set[str]]:
    """Names of the methods of plugins and creators that TensorRT calls meanwhile."""
    called: set[str] = set()

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def noted(*arguments: Any) -> Any:
            called.add(method.__name__)
            return method(*arguments)

        return noted

    originals = [
        (owner, name, method)
        for owner in (OpPlugin, OpPluginCreator)
        for name, method in list(vars(owner).items())
        if not name.startswith("_")
    ]
    for owner, name, method in originals:
        setattr(owner, name, noting(method))
    try:
        yield called
    finally:
        for owner, name, method in originals:
            setattr(owner, name, method)


def observe_build(trt: ModuleType, folder: Path, op: CustomOp, case: Case, dtype: str, dynamic: bool) -> dict[str, Any]:
    """The network that the parser makes of a case, and an engine of it for every compute capability."""
    model = write_model(folder / "model.onnx", case, dtype, dynamic=dynamic)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = parse_network(trt, builder, model, Target.TENSORRT_RTX, model)
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    seen: dict[str, Any] = {
        "layers": [str(network.get_layer(i).type) for i in range(network.num_layers)],
        "outputs": [[output.dtype.name, *sizes(output.shape)] for output in outputs],
    }
    for capability in CAPABILITIES:
        with calls_noted() as called:
            engine = build_engine(trt, model, [op], settings(capability, open_ranges(case) if dynamic else {})).data
        stored = [name for name, value in encode(op, case.attributes).items() if value.tobytes() in engine]
        named = [name for name in (op.name, *op.attributes) if name.encode() in engine]
        seen[capability] = {"called": sorted(called), "named": named, "stored": stored}
    return seen


def observe_fields(trt: ModuleType, op: CustomOp, case: Case) -> dict[str, Any]:
    """The fields that a plugin gives to an engine, and the plugin that the runtime makes of them."""
    plugin = new_plugin(trt, op, case.attributes)
    stored = plugin.get_fields_to_serialize()
    creator = trt.get_plugin_registry().get_creator(op.name, "1", "uniad")
    restored = creator.create_plugin("the_node", stored, trt.TensorRTPhase.RUNTIME)
    return {
        "fields": [[field.name, field.type.name, field.data.tolist()] for field in stored],
        "restored": restored.attributes,
        "identity": [restored.plugin_name, restored.plugin_version, restored.plugin_namespace],
    }


def observe_refusals(trt: ModuleType, folder: Path) -> dict[str, str]:
    """What is said of a compute capability and of an operator that TensorRT does not have."""
    inverse = write_model(folder / "inverse.onnx", CASES["Inverse"])
    node = onnx.helper.make_node("NonZero", ["x"], ["y"], name="the_node")
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (2, 3))
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, (2, "n"))
    graph = onnx.helper.make_graph([node], "one_node", [x], [y])
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=opsets), folder / "nonzero.onnx")
    return {
        "capability": refusal(lambda: build_engine(trt, inverse, OPS, settings("9.0"))),
        "operator": refusal(lambda: build_engine(trt, folder / "nonzero.onnx", OPS, settings("8.9"))),
    }


def settings(capability: str, profiles: Mapping[str, ShapeRange] | None = None) -> BuildSettings:
    return BuildSettings(Target.TENSORRT_RTX, capabilities=(capability,), profiles=profiles or {})


def refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except InputError as error:
        return str(error)
    return ""


def main() -> None:
    report = Path(sys.argv[1])
    trt = load_tensorrt_rtx()
    seen: dict[str, Any] = {"builds": {}, "fields": {}}
    by_name = {op.name: op for op in OPS}
    for name, case in CASES.items():
        op = by_name[case.op]
        register_plugins(trt, [op])
        seen["fields"][name] = observe_fields(trt, op, case)
        for dtype, dynamic in itertools.product(DTYPES, (False, True)):
            key = f"{name} {dtype} {'dynamic' if dynamic else 'static'}"
            seen["builds"][key] = observe_build(trt, report.parent, op, case, dtype, dynamic)
    seen["refusals"] = observe_refusals(trt, report.parent)
    report.write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
