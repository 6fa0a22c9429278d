"""What is known of a model's outputs without running it: their types and shapes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx.helper
import onnx.shape_inference
from onnx import ModelProto, TypeProto

from toolkit.graph.weights import with_weights_as_inputs


def output_types(model: ModelProto) -> dict[str, TypeProto]:
    """The type of each output as ONNX infers it from the inputs alone; empty where it cannot tell."""
    light, _ = with_weights_as_inputs(model)
    del light.graph.value_info[:]
    for value in light.graph.output:
        value.ClearField("type")
    try:
        outputs = onnx.shape_inference.infer_shapes(light, data_prop=True).graph.output
    except (RuntimeError, ValueError):  # the model contradicts itself
        outputs = light.graph.output
    return {value.name: value.type for value in outputs}


def lost_type(before: Mapping[str, TypeProto], after: Mapping[str, TypeProto]) -> str:
    """The first output that is gone, or of which less is known than before, or something else, in words; else empty."""
    for name, known in before.items():
        if name not in after:
            return f"output {name!r} is gone"
        if not is_as_known(known, after[name]):
            return f"output {name!r} was {text_of(known)} and is {text_of(after[name])}"
    return ""


def is_as_known(known: TypeProto, now: TypeProto) -> bool:
    """Whether `now` states all that `known` does: kinds, element types, ranks and fixed sizes."""
    kind = known.WhichOneof("value")
    if kind is None:
        return True
    if now.WhichOneof("value") != kind:
        return False
    one, other = getattr(known, kind), getattr(now, kind)
    if kind in ("sequence_type", "optional_type"):
        return is_as_known(one.elem_type, other.elem_type)
    if kind == "map_type":
        return bool(one.key_type == other.key_type) and is_as_known(one.value_type, other.value_type)
    if kind == "opaque_type":
        return bool(one == other)
    return one.elem_type in (0, other.elem_type) and (not one.HasField("shape") or fits(one, other))


def fits(known: TypeProto.Tensor, now: TypeProto.Tensor) -> bool:
    """Whether a tensor has the rank of another, and its fixed sizes."""
    sizes, others = known.shape.dim, now.shape.dim
    return (
        now.HasField("shape")
        and len(sizes) == len(others)
        and all(
            not size.HasField("dim_value") or (other.HasField("dim_value") and size.dim_value == other.dim_value)
            for size, other in zip(sizes, others, strict=True)
        )
    )


def text_of(known: TypeProto) -> str:
    """A type in words."""
    kind = known.WhichOneof("value")
    if kind is None:
        return "unknown"
    if kind in ("sequence_type", "optional_type"):
        return f"{kind.removesuffix('_type')} of {text_of(getattr(known, kind).elem_type)}"
    return str(onnx.helper.printable_type(known))
