"""Values of attributes that no operator knows are refused, by node, attribute and value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import AttributeProto, ModelProto, defs

from toolkit.errors import InputError
from toolkit.graph.attributes import CHOICES, check_attributes, misfits

PATH = Path("model.onnx")
BAD: list[tuple[str, str, Any, str]] = [
    ("Cast", "to", 99, "99; it must be the number of a data type"),
    ("Cast", "to", 0, "0; it must be the number of a data type"),
    ("Cast", "to", -(2**63), "-9223372036854775808; it must be the number of a data type"),
    ("QuantizeLinear", "output_dtype", 77, "77; it must be the number of a data type, or 0"),
    ("Conv", "strides", [1, 0], "[1, 0]; it must be from 1 to 2147483647"),
    ("Conv", "dilations", [2**62, 1], "[4611686018427387904, 1]; it must be from 1 to"),
    ("Conv", "group", 0, "0; it must be from 1 to"),
    ("Conv", "auto_pad", "SAME", "'SAME'; it must be one of NOTSET, SAME_UPPER, SAME_LOWER, VALID"),
    ("DepthToSpace", "blocksize", 0, "0; it must be from 1 to"),
    ("Concat", "axis", 2**40, "1099511627776; it must be from -64 to 63"),
    ("Transpose", "perm", [0, -1], "[0, -1]; it must be from 0 to 63"),
    ("Resize", "mode", "avg", "'avg'; it must be one of nearest, linear, cubic"),
    ("RoiAlign", "mode", "linear", "'linear'; it must be one of avg, max"),
    ("ScatterND", "reduction", "mean", "'mean'; it must be one of none, add, mul, max, min"),
    ("Gelu", "approximate", "x" * 10_000, "xx…xx"),
    ("LSTM", "direction", b"\xff\x1b[2J", r"\x1b[2J'; it must be one of forward"),
]


def model(op: str, name: str, value: Any, domain: str = "") -> ModelProto:
    node = onnx.helper.make_node(op, ["x"], ["y"], "the one", domain=domain, **{name: value})
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))


@pytest.mark.parametrize(("op", "name", "value", "words"), BAD, ids=lambda value: str(value)[:20])
def test_values_that_no_operator_knows_are_refused(op: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        check_attributes(model(op, name, value), PATH)
    message = str(refusal.value)
    assert message.startswith(f"ONNX model model.onnx: node 'the one' ({op}) has the attribute {name} = ")
    assert words in message
    assert message.endswith("; export it again")
    assert message.isprintable()
    assert len(message) < 1000


def test_nodes_in_branches_and_functions_are_read_too() -> None:
    bad = model("Cast", "to", 99)
    branch = onnx.helper.make_node("If", ["c"], ["d"], then_branch=bad.graph, else_branch=bad.graph)
    with pytest.raises(InputError, match="to = 99"):
        check_attributes(onnx.helper.make_model(onnx.helper.make_graph([branch], "g", [], [])), PATH)
    function = onnx.helper.make_function("own", "F", ["x"], ["y"], bad.graph.node, [])
    with pytest.raises(InputError, match="to = 99"):
        check_attributes(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []), functions=[function]), PATH)


def test_operators_of_others_have_attributes_of_any_value() -> None:
    check_attributes(model("Cast", "to", 99, domain="own"), PATH)
    check_attributes(model("SomebodysPlugin", "mode", "fast"), PATH)


def test_an_attribute_of_the_function_has_no_value_yet() -> None:
    bad = model("Cast", "to", 1)
    bad.graph.node[0].attribute[0].CopyFrom(AttributeProto(name="to", type=AttributeProto.INT, ref_attr_name="type"))
    check_attributes(bad, PATH)


def test_what_onnx_takes_for_unstated_attributes_passes() -> None:
    """By the definitions of all operators, but for the oldest versions, some of which are misspelt."""
    checked = set()
    for schema in defs.get_all_schemas_with_history():
        for attribute in schema.attributes.values():
            if not schema.domain and schema.since_version > 6 and attribute.default_value.name:
                node = onnx.NodeProto(op_type=schema.name, attribute=[attribute.default_value])
                assert not list(misfits(node)), schema
                checked |= {attribute.name, f"{schema.name}.{attribute.name}"}
    assert set(CHOICES) - checked == {"BitShift.direction", "TfIdfVectorizer.mode"}
