"""How an official config prepares camera images: its test pipeline as settings of `ImageConfig`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from toolkit.config.official.keys import ABSENT, integer, lookup, number, numbers
from toolkit.errors import InputError
from toolkit.text import quoted

NORMALIZE, SCALE, PAD = "NormalizeMultiviewImage", "RandomScaleImageMultiViewImage", "PadMultiViewImage"
IMAGE_STEPS = {NORMALIZE: {"mean", "std", "to_rgb"}, SCALE: {"scales"}, PAD: {"size_divisor"}}
"""What happens to an image, in this order, and the arguments of each step."""
GROUP = "MultiScaleFlipAug3D"
OTHER_STEPS = (
    "LoadMultiViewImageFromFilesInCeph", "LoadMultiViewImageFromFiles", "LoadAnnotations3D_E2E",
    "GenerateOccFlowLabels", "DefaultFormatBundle3D", "CustomCollect3D", GROUP,
)  # fmt: skip
"""Steps that leave the images as they are."""


def image_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted fields of the `ModelConfig`, from the names that an official config assigns.

    Raises InputError for image steps, orders and arguments that the toolkit does not have.
    """
    steps = list(pipeline_steps(values))
    order = [step["type"] for step in steps if step["type"] in IMAGE_STEPS]
    if order != list(IMAGE_STEPS):
        raise InputError(
            f"the test pipeline has the image steps {quoted(order)}; supported: {quoted(list(IMAGE_STEPS))}"
        )
    by_type = {step["type"]: step for step in steps}
    for kind, arguments in IMAGE_STEPS.items():
        unknown = sorted(str(name) for name in by_type[kind].keys() - arguments - {"type"})
        if unknown:
            raise InputError(f"{kind} has the argument {unknown[0]:.60}; supported: {', '.join(sorted(arguments))}")
    if by_type[NORMALIZE].get("to_rgb", True) is not True:
        raise InputError(f"{NORMALIZE} has to_rgb=False; only models of RGB images are supported")
    if by_type.get(GROUP, {}).get("flip", False) is not False:
        raise InputError(f"{GROUP} flips images; only flip=False is supported")
    fields = {
        "image.mean": argument(by_type[NORMALIZE], "mean", numbers(3)),
        "image.std": argument(by_type[NORMALIZE], "std", numbers(3)),
        "image.scale": argument(by_type[SCALE], "scales", only_number),
        "image.pad_multiple": argument(by_type[PAD], "size_divisor", integer),
    }
    if "img_scale" in by_type.get(GROUP, {}):
        width, height = argument(by_type[GROUP], "img_scale", size)
        fields |= {"image.source_width": width, "image.source_height": height}
    return fields


def pipeline_steps(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The steps of the test pipeline, those inside a step after it. Raises InputError for unknown ones."""
    pipeline = lookup(values, "data.test.pipeline")
    if pipeline is ABSENT:
        pipeline = values.get("test_pipeline")
    if not isinstance(pipeline, list | tuple):
        raise InputError("it assigns no list to 'test_pipeline', which says how images are prepared; add it")
    pending = list(pipeline)
    while pending:
        step = pending.pop(0)
        kind = step.get("type") if isinstance(step, dict) else step
        if not isinstance(step, dict) or kind not in (*OTHER_STEPS, *IMAGE_STEPS):
            supported = ", ".join((*OTHER_STEPS, *IMAGE_STEPS))
            raise InputError(f"the test pipeline has the step {quoted(kind)}; supported: {supported}")
        yield step
        inner = step.get("transforms", []) if kind == GROUP else []
        if not isinstance(inner, list | tuple):
            raise InputError(f"{GROUP} has transforms={quoted(inner)}; it must be a list of steps")
        pending[:0] = inner


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


def size(value: Any) -> tuple[int, int]:
    """Width and height in pixels."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("a width and a height")
    return integer(value[0]), integer(value[1])
