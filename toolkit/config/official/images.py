"""How an official config prepares camera images: its test pipeline as settings of `ImageConfig`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from toolkit.config.model import ChannelOrder
from toolkit.config.official.keys import ABSENT, integer, lookup, number, numbers
from toolkit.errors import InputError
from toolkit.text import quoted

NORMALIZE, SCALE, PAD = "NormalizeMultiviewImage", "RandomScaleImageMultiViewImage", "PadMultiViewImage"
IMAGE_STEPS = {NORMALIZE: {"mean", "std", "to_rgb"}, SCALE: {"scales"}, PAD: {"size_divisor"}}
"""What happens to an image, in this order, and the arguments of each step."""
ORDERS = ([NORMALIZE, SCALE, PAD], [NORMALIZE, PAD])
"""Of these steps, as UniAD-tiny and UniAD-base have them."""
UNSCALED: Mapping[str, Any] = {"type": SCALE, "scales": [1.0]}
"""Stands for the step that an order lacks."""
GROUP = "MultiScaleFlipAug3D"
OTHER_STEPS = (
    "LoadMultiViewImageFromFilesInCeph", "LoadMultiViewImageFromFiles", "LoadAnnotations3D_E2E",
    "GenerateOccFlowLabels", "DefaultFormatBundle3D", "CustomCollect3D", GROUP,
)  # fmt: skip
"""Steps that leave the images as they are."""


def image_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted fields of the `ModelConfig`, from the names that an official config assigns.

    Raises InputError that names, an argument each, the image steps, orders and values that the toolkit does not have.
    """
    steps = list(pipeline_steps(values))
    order = [step["type"] for step in steps if step["type"] in IMAGE_STEPS]
    if order not in ORDERS:
        raise InputError(
            f"the test pipeline has the image steps {quoted(order)}; supported: {' or '.join(map(quoted, ORDERS))}"
        )
    by_type = {step["type"]: step for step in (UNSCALED, *steps)}
    faults = list(step_faults(by_type))
    fields: dict[str, Any] = {}
    readers = dict(ARGUMENTS)
    if "img_scale" in by_type.get(GROUP, {}):
        readers["image.source"] = (GROUP, "img_scale", size)
    for field, (kind, name, read) in readers.items():
        try:
            fields[field] = argument(by_type[kind], name, read)
        except InputError as error:
            faults += error.args
    if faults:
        raise InputError(*faults)
    if "image.source" in fields:
        fields["image.source_width"], fields["image.source_height"] = fields.pop("image.source")
    return fields


def step_faults(by_type: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What steps do to images that the toolkit does not."""
    for kind, arguments in IMAGE_STEPS.items():
        for name in sorted(str(name) for name in by_type[kind].keys() - arguments - {"type"}):
            yield f"{kind} has the argument {name:.60}; supported: {', '.join(sorted(arguments))}"
    if by_type.get(GROUP, {}).get("flip", False) is not False:
        yield f"{GROUP} flips images; only flip=False is supported"


def pipeline_steps(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of the test pipeline, those inside a step after it. Raises InputError that names all unknown ones."""
    pipeline = lookup(values, "data.test.pipeline")
    if pipeline is ABSENT:
        pipeline = values.get("test_pipeline")
    if not isinstance(pipeline, list | tuple):
        raise InputError("it assigns no list to 'test_pipeline', which says how images are prepared; add it")
    pending, faults = list(pipeline), []
    while pending:
        step = pending.pop(0)
        kind = step.get("type") if isinstance(step, dict) else step
        if not isinstance(step, dict) or kind not in (*OTHER_STEPS, *IMAGE_STEPS):
            supported = ", ".join((*OTHER_STEPS, *IMAGE_STEPS))
            faults.append(f"the test pipeline has the step {quoted(kind)}; supported: {supported}")
            continue
        yield step
        inner = step.get("transforms", []) if kind == GROUP else []
        if not isinstance(inner, list | tuple):
            faults.append(f"{GROUP} has transforms={quoted(inner)}; it must be a list of steps")
            continue
        pending[:0] = inner
    if faults:
        raise InputError(*faults)


def argument(step: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> Any:
    """An argument of a step as its reader gives it. Raises InputError for a missing or faulty one."""
    try:
        return read(step.get(name))
    except ValueError as error:
        raise InputError(f"{step['type']} has {name}={quoted(step.get(name))}; it must be {error}") from error


def only_number(value: Any) -> float:
    """The one finite number of a list."""
    if not isinstance(value, list | tuple) or len(value) != 1:
        raise ValueError("a list of one number")
    return number(value[0])


def channel_order(value: Any) -> ChannelOrder:
    """The order of colours after the pictures, whose files are read with blue first, were turned round or not."""
    if value is not None and not isinstance(value, bool):
        raise ValueError("True or False")
    return ChannelOrder.BGR if value is False else ChannelOrder.RGB


def size(value: Any) -> tuple[int, int]:
    """Width and height in pixels."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("a width and a height")
    return integer(value[0]), integer(value[1])


ARGUMENTS: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "image.channel_order": (NORMALIZE, "to_rgb", channel_order),
    "image.mean": (NORMALIZE, "mean", numbers(3)),
    "image.std": (NORMALIZE, "std", numbers(3)),
    "image.scale": (SCALE, "scales", only_number),
    "image.pad_multiple": (PAD, "size_divisor", integer),
}
"""By field of the configuration: the step, its argument, and how that is read."""
