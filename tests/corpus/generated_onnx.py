"""Variations of an ONNX model that has a bit of everything: weights beside it, a local function, an inner graph."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.corpus.case import Malformed, Sample
from tests.corpus.generated import series
from tests.corpus.mutations import altered_message, damaged

INSPECT = "inspect bad.onnx --json out.json"
REWRITE = "rewrite bad.onnx -o out.onnx --no-check"
WEIGHTS = "bad.data"


def generated_onnx() -> Iterator[Malformed]:
    yield from series("ONNX model, damaged", 20, [INSPECT, REWRITE], damaged_model)
    yield from series("ONNX model, altered", 50, [INSPECT, REWRITE, REWRITE], altered_model)


def damaged_model(folder: Path, sample: Sample, rng: random.Random) -> None:
    write_weights(folder)
    (folder / "bad.onnx").write_bytes(damaged(model().SerializeToString(), rng))


def altered_model(folder: Path, sample: Sample, rng: random.Random) -> None:
    write_weights(folder)
    (folder / "bad.onnx").write_bytes(altered_message(model(), rng).SerializeToString())


def write_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(np.ones(16, np.float32).tobytes())


def model() -> ModelProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
    twice = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1], attributes=["unused"]
    )
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(operator, ["doubled"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4])],
        )
        for name, operator in {"then": "Relu", "else": "Neg"}.items()
    }
    nodes = [
        helper.make_node("MatMul", ["x", "outside"], ["product"], "first"),
        helper.make_node("Twice", ["product"], ["doubled"], "second", domain="mine", unused=1.5),
        helper.make_node("If", ["condition"], ["chosen"], "third", **branches),
        helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(np.array([0]))),
        helper.make_node("ReduceMax", ["chosen", "axes"], ["largest"], keepdims=1),
        helper.make_node("Pad", ["largest", "pads"], ["y"], "last", mode="constant"),
    ]
    outside = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": WEIGHTS, "offset": "0", "length": "64"}.items():
        outside.external_data.add(key=key, value=value)
    inside = {"condition": np.array(True), "pads": np.zeros(4, np.int64)}
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [outside, *(numpy_helper.from_array(array, name) for name, array in inside.items())],
    )
    return helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=9, producer_name="hand")
