"""Attributes of standard operators whose values ONNX's checker lets through, though the operator knows no such value.

Libraries meet them in different ways: an error that names neither node nor attribute, a division by zero, silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, NodeProto

from toolkit.errors import InputError
from toolkit.graph.topology import label
from toolkit.onnx_nodes import all_nodes
from toolkit.storage.onnx_tensors import MOST_DIMENSIONS, TYPES
from toolkit.text import quoted

DATA_TYPES = ("to", "dtype", "output_datatype", "stash_type")
OPTIONAL_DATA_TYPES = ("output_dtype", "precision", "softmax_precision")
"""0 leaves these to the operator."""
LARGEST = 2**31 - 1
RANGES = {
    **dict.fromkeys(("kernel_shape", "strides", "dilations", "group", "offset_group"), (1, LARGEST)),
    **dict.fromkeys(("blocksize", "num_outputs", "num_groups", "hidden_size", "size", "p"), (1, LARGEST)),
    **dict.fromkeys(("output_height", "output_width", "pooled_shape", "sample_size"), (1, LARGEST)),
    **dict.fromkeys(("axis", "axes", "batch_axis", "time_axis"), (-MOST_DIMENSIONS, MOST_DIMENSIONS - 1)),
    "perm": (0, MOST_DIMENSIONS - 1),
}
"""Least and greatest number, or of each number in a list."""
CHOICES = {
    "auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"),
    "approximate": ("none", "tanh"),
    "case_change_action": ("LOWER", "UPPER", "NONE"),
    "keep_aspect_ratio_policy": ("stretch", "not_larger", "not_smaller"),
    "nearest_mode": ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    "padding_mode": ("zeros", "border", "reflection"),
    "pixel_format": ("RGB", "BGR", "Grayscale"),
    "direction": ("forward", "reverse", "bidirectional"),
    "BitShift.direction": ("LEFT", "RIGHT"),
    "Resize.mode": ("nearest", "linear", "cubic"),
    "RoiAlign.mode": ("avg", "max"),
    "GridSample.mode": ("linear", "nearest", "cubic", "bilinear", "bicubic"),
    "Pad.mode": ("constant", "reflect", "edge", "wrap"),
    "DepthToSpace.mode": ("DCR", "CRD"),
    "TfIdfVectorizer.mode": ("TF", "IDF", "TFIDF"),
    "RoiAlign.coordinate_transformation_mode": ("half_pixel", "output_half_pixel"),
    "Resize.coordinate_transformation_mode": (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
        "tf_half_pixel_for_nn",
    ),
    **dict.fromkeys(("ScatterElements.reduction", "ScatterND.reduction"), ("none", "add", "mul", "max", "min")),
    "reduction": ("none", "sum", "mean"),
}
"""Texts that an attribute may be, of any operator or, where they differ, of one."""


def check_attributes(model: ModelProto, path: Path) -> None:
    """Raise InputError, naming node, attribute and value, for a value that a standard operator cannot have.

    The model is one that ONNX's checker accepts: of each attribute it has made sure that the operator has one of that
    name and type.
    """
    for part in (model.graph, *model.functions):
        for node in all_nodes(part.node):
            for attribute, needed in misfits(node):
                value = quoted(plain(onnx.helper.get_attribute_value(attribute)))
                has = f"{label(node)} has the attribute {attribute.name} = {value}"
                raise InputError(f"ONNX model {path}: {has}; it must be {needed}; export it again")


def misfits(node: NodeProto) -> Iterator[tuple[AttributeProto, str]]:
    """The attributes that a node of a standard operator cannot have so, and what each must be.

    Inside a function, an attribute may refer to one of the function, and has no value of its own.
    """
    if node.domain or not onnx.defs.has(node.op_type):
        return
    for attribute in node.attribute:
        if not attribute.ref_attr_name and (needed := requirement(node.op_type, attribute)):
            yield attribute, needed


def requirement(op: str, attribute: AttributeProto) -> str:
    """What an attribute of a standard operator must be; empty if it is."""
    name, value = attribute.name, plain(onnx.helper.get_attribute_value(attribute))
    if name in DATA_TYPES and value not in TYPES:
        return "the number of a data type"
    if name in OPTIONAL_DATA_TYPES and value not in {0, *TYPES}:
        return "the number of a data type, or 0"
    choices = CHOICES.get(f"{op}.{name}", CHOICES.get(name, ()))
    if choices and value not in choices:
        return f"one of {', '.join(choices)}"
    if name in RANGES:
        least, most = RANGES[name]
        numbers: Iterable[int] = value if isinstance(value, list) else [value]
        if not all(least <= number <= most for number in numbers):
            return f"from {least} to {most}"
    return ""


def plain(value: Any) -> Any:
    """A value of an attribute as a number, text or list."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, int | float | str) or not isinstance(value, Iterable) else list(value)
