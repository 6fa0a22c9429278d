"""Tensors that are not what they state are found wherever they stand in a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from toolkit.errors import InputError
from toolkit.storage.onnx_tensors import check_tensors, count_parts, stated_bytes, tensors_in

PATH = Path("model.onnx")
PLACES = ("initializer", "attribute", "branch", "function", "sparse")
"""Where a model may have tensors."""


def tensor(name: str = "w") -> TensorProto:
    return onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32), name)


def model(**parts: TensorProto) -> ModelProto:
    """A model with tensors in every place that may hold one."""
    named = {name: parts.get(name, tensor(name)) for name in PLACES}
    inner = onnx.helper.make_graph([], "inner", [], [], [named["branch"]])
    nodes = [
        onnx.helper.make_node("Constant", [], ["c"], value=named["attribute"]),
        onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [], [named["initializer"]])
    indices = onnx.helper.make_tensor("i", TensorProto.INT64, [6], range(6))
    graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(named["sparse"], indices, [9]))
    body = [onnx.helper.make_node("Constant", [], ["b"], value=named["function"])]
    function = onnx.helper.make_function("own", "F", [], ["b"], body, [])
    return onnx.helper.make_model(graph, functions=[function])


def set_type(value: TensorProto) -> None:
    value.data_type = 99


def set_no_type(value: TensorProto) -> None:
    value.data_type = 0


def shorten(value: TensorProto) -> None:
    value.raw_data = value.raw_data[:-1]


def enlarge(value: TensorProto) -> None:
    value.dims[0] = 7


def turn_negative(value: TensorProto) -> None:
    value.dims[:] = [-6, -1]


def write_too_few(value: TensorProto) -> None:
    value.ClearField("raw_data")
    value.float_data.extend([1, 2])


def add_dimensions(value: TensorProto) -> None:
    value.dims[:] = [1] * 64 + [6]


def empty(value: TensorProto) -> None:
    value.ClearField("raw_data")


SPOILED = {
    set_type: "ONNX has no type 99",
    set_no_type: "ONNX has no type 0",
    shorten: "has 23 bytes where 24 are stated",
    enlarge: "has 24 bytes where 28 are stated",
    turn_negative: "its shape is [-6, -1]",
    write_too_few: "cannot reshape array of size 2 into shape (6,)",
    add_dimensions: "it has 65 dimensions, the most is 64",
    empty: "cannot reshape array of size 0 into shape (6,)",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("spoil", "reason"), SPOILED.items())
def test_a_bad_tensor_is_named(place: str, spoil: Callable[[TensorProto], None], reason: str) -> None:
    bad = tensor("the one")
    spoil(bad)
    with pytest.raises(InputError) as refusal:
        check_tensors(model(**{place: bad}), PATH)
    assert str(refusal.value).startswith("ONNX model model.onnx: tensor 'the one' ")
    assert reason in str(refusal.value)
    assert str(refusal.value).endswith("; export it again")


def test_good_tensors_pass() -> None:
    check_tensors(model(), PATH)
    assert {value.name for value in tensors_in(model())} == {*PLACES, "i"}


def test_parts_are_counted_wherever_they_stand() -> None:
    """Also names, such as those of a node's inputs; numbers are not."""
    nodes = [onnx.helper.make_node("Sum", ["a", "b", "c"], ["d"], axes=[1, 2, 3])]
    counted = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []), opset_imports=[])
    assert count_parts(counted, 99) == len(["node", "a", "b", "c", "d", "axes"])
    assert 2 < count_parts(counted, 2) <= 6


def test_values_of_unknown_types_are_refused() -> None:
    bad = model()
    bad.graph.input.append(onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [2]))
    check_tensors(bad, PATH)
    bad.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(InputError, match=r"ONNX model model\.onnx: a value has the unknown type 99; export it again"):
        check_tensors(bad, PATH)


@pytest.mark.parametrize("name", sorted(set(TensorProto.DataType.keys()) - {"UNDEFINED", "STRING"}))
def test_the_size_of_every_type_is_known(name: str) -> None:
    """ONNX packs five elements of four bits into three bytes."""
    value = onnx.helper.make_tensor("w", TensorProto.DataType.Value(name), [5], np.ones(5))
    raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(value))
    assert stated_bytes(value) == len(raw.raw_data)
    check_tensors(model(initializer=value), PATH)
    check_tensors(model(initializer=raw), PATH)


def test_text_is_counted() -> None:
    text = onnx.numpy_helper.from_array(np.array(["a", "b"], object), "t")
    check_tensors(model(initializer=text), PATH)
    text.dims[0] = 3
    with pytest.raises(InputError, match=r"tensor 't' has 2 texts where 3 are stated"):
        check_tensors(model(initializer=text), PATH)
