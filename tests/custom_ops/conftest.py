"""What the tests of every custom op need: its function body in ONNX Runtime, and its export from a torch module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto
from torch import Tensor, nn

from toolkit.conversion.export import quiet_exporter
from toolkit.ops.spec import DOMAIN, OPSET, VERSION, CustomOp, registered_schemas

torch.set_num_threads(1)


class OpModule(nn.Module):
    """Calls one custom op with fixed attributes."""

    def __init__(self, op: CustomOp, attributes: dict[str, Any]) -> None:
        super().__init__()
        self.op = op
        self.attributes = attributes

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.op.torch_op(*inputs, **self.attributes)
        return output


@pytest.fixture
def run_body() -> Callable[..., np.ndarray]:
    """Computes one node of an op, called with (op, *inputs, **attributes), by its local function in ONNX Runtime."""

    def run(op: CustomOp, *inputs: Tensor, **attributes: Any) -> np.ndarray:
        def declare(name: str, tensor: Tensor) -> onnx.ValueInfoProto:
            return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, tensor.shape)

        graph = onnx.helper.make_graph(
            [onnx.helper.make_node(op.name, op.inputs, ["output"], domain=DOMAIN, **attributes)],
            "one_node",
            [declare(name, tensor) for name, tensor in zip(op.inputs, inputs, strict=True)],
            [declare("output", op.torch_op(*inputs, **attributes))],
        )
        model = onnx.helper.make_model(
            graph,
            ir_version=10,
            opset_imports=[onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(DOMAIN, VERSION)],
            functions=[op.function(attributes)],
        )
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        fed = {name: tensor.numpy() for name, tensor in zip(op.inputs, inputs, strict=True)}
        output: np.ndarray = session.run(None, fed)[0]
        return output

    return run


@pytest.fixture
def exported_nodes() -> Callable[..., list[NodeProto]]:
    """The ONNX nodes of a torch module that calls an op, made with (op, *inputs, **attributes)."""

    def export(op: CustomOp, *inputs: Tensor, **attributes: Any) -> list[NodeProto]:
        with registered_schemas([op]), quiet_exporter():
            program = torch.onnx.export(
                OpModule(op, attributes),
                inputs,
                dynamo=True,
                opset_version=OPSET,
                custom_translation_table={op.overload: op.translation()},
                verbose=False,
            )
        assert program is not None
        return list(program.model_proto.graph.node)

    return export
