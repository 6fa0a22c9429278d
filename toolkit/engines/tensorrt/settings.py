"""How an engine is to be built, and how the command line says it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from toolkit.engines.tensorrt.library import Target
from toolkit.errors import InputError
from toolkit.precision import Precision

Shape = tuple[int, ...]
DEFAULT_CAPABILITIES = ("8.6", "8.9", "12.0")
"""Of TensorRT for RTX: the GPUs of the RTX 30, 40 and 50 series. One build serves all of them."""
HIGHEST_LEVEL = 5


class CustomOps(Enum):
    """What computes a custom op in an engine."""

    PLUGIN = "plugin"
    """The op's kernel, launched by a plugin that runs in Python."""
    EMBEDDED = "embedded"
    """The op's kernel, compiled into the engine; full TensorRT alone."""
    FUNCTION = "function"
    """The standard operators of its local function: no plugin and no kernel."""


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, usual and largest shape of an input of which some sizes are open."""

    smallest: Shape
    usual: Shape
    largest: Shape


@dataclass(frozen=True)
class BuildSettings:
    """Everything about a build but the model.

    `keep_fp32` are patterns of nodes that no other precision applies to: of names, op types or submodules. No
    `capabilities` means the GPU at hand. `profiles` has a range for every input with open sizes. `workspace` is in
    MiB. None leaves a choice to TensorRT. Without `tf32`, FP32 products keep their 24-bit mantissas. With `pack` the
    engine is written as a gzip file.
    `precision` is an `EnginePrecision`.
    """

    target: Target
    precision: Precision = Precision.FP32
    keep_fp32: tuple[str, ...] = ()
    custom_ops: CustomOps = CustomOps.PLUGIN
    capabilities: tuple[str, ...] = ()
    profiles: Mapping[str, ShapeRange] = field(default_factory=dict)
    workspace: int | None = None
    optimization_level: int | None = None
    timing_cache: Path | None = None
    tf32: bool = False
    pack: bool = False

    def __post_init__(self) -> None:
        if self.precision is Precision.TF32:
            raise InputError("--precision tf32 is of no use in a build; give --tf32 with --precision fp32")
        if self.keep_fp32 and self.precision is Precision.FP32:
            raise InputError("--keep-fp32 is of no use with --precision fp32; leave it out")
        if self.target is Target.TENSORRT and self.capabilities:
            raise InputError(
                f"{Target.TENSORRT.title} builds for the GPU at hand alone; leave --compute-capability out, or build "
                f"with --target {Target.TENSORRT_RTX.value}"
            )
        if self.target is Target.TENSORRT_RTX and self.custom_ops is CustomOps.EMBEDDED:
            raise InputError(
                f"{Target.TENSORRT_RTX.title} takes no embedded kernels; choose --custom-ops "
                f"{CustomOps.PLUGIN.value} or {CustomOps.FUNCTION.value}"
            )
        if self.target is Target.TENSORRT_RTX and self.timing_cache is not None:
            raise InputError(f"{Target.TENSORRT_RTX.title} times nothing while it builds; leave --timing-cache out")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= HIGHEST_LEVEL:
            raise InputError(f"--opt-level {self.optimization_level} must lie between 0 and {HIGHEST_LEVEL}")

    @property
    def name(self) -> str:
        """What tells engines of one model apart."""
        parts = [self.target.value, self.precision.value]
        if self.custom_ops is not CustomOps.PLUGIN:
            parts.append(self.custom_ops.value)
        return "-".join(parts)


def parse_capabilities(text: str | None, target: Target) -> tuple[str, ...]:
    """Capabilities of a comma-separated list; by default those of common GPUs, or the GPU at hand for TensorRT.

    Raises InputError for one that is no number with a point, or is named twice.
    """
    if text is None:
        return DEFAULT_CAPABILITIES if target is Target.TENSORRT_RTX else ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not re.fullmatch(r"\d{1,2}\.\d", name):
            raise InputError(f"--compute-capability {name!r} is none; give them like 8.6,8.9,12.0")
    if len(set(names)) < len(names):
        raise InputError(f"--compute-capability {text} names one twice; leave one out")
    return names


def parse_profiles(texts: Sequence[str]) -> dict[str, ShapeRange]:
    """Ranges by input from ``NAME:MIN:OPT:MAX``, with shapes like ``1x3x256``.

    Raises InputError for another form, ranks that differ, sizes that are not in order, or an input given twice.
    """
    profiles: dict[str, ShapeRange] = {}
    for text in texts:
        name, *shapes = text.rsplit(":", 3)
        if len(shapes) != 3 or not all(re.fullmatch(r"\d{1,9}(x\d{1,9})*", shape) for shape in shapes):
            raise InputError(f"--profile {text!r} is not NAME:MIN:OPT:MAX with shapes like 1x3x256")
        smallest, usual, largest = (tuple(map(int, shape.split("x"))) for shape in shapes)
        if not len(smallest) == len(usual) == len(largest):
            raise InputError(f"--profile {text!r} has shapes of different ranks; give the same number of sizes")
        if not all(low <= middle <= high for low, middle, high in zip(smallest, usual, largest, strict=True)):
            raise InputError(f"--profile {text!r}: sizes must not decrease from MIN over OPT to MAX")
        if name in profiles:
            raise InputError(f"--profile names input {name!r} twice; leave one out")
        profiles[name] = ShapeRange(smallest, usual, largest)
    return profiles


def equivalent_command(settings: BuildSettings, model: Path, engine: Path) -> str:
    """The line that builds the same engine with NVIDIA's own tool, given a library with plugins of the same names."""
    return shlex.join(_words(settings, model, engine))


def _words(settings: BuildSettings, model: Path, engine: Path) -> Iterator[str]:
    yield "trtexec" if settings.target is Target.TENSORRT else "tensorrt_rtx"
    yield f"--onnx={model}"
    yield f"--saveEngine={engine}"
    yield "--skipInference"
    if settings.target is Target.TENSORRT:
        yield "--stronglyTyped"  # always so in TensorRT for RTX
    if settings.capabilities:
        yield f"--computeCapabilities={','.join(name.replace('.', '') for name in settings.capabilities)}"
    if not settings.tf32:
        yield "--noTF32"
    if settings.workspace is not None:
        yield f"--memPoolSize=workspace:{settings.workspace}M"
    if settings.optimization_level is not None:
        yield f"--builderOptimizationLevel={settings.optimization_level}"
    if settings.timing_cache is not None:
        yield f"--timingCacheFile={settings.timing_cache}"
    for option, part in (("minShapes", "smallest"), ("optShapes", "usual"), ("maxShapes", "largest")):
        if settings.profiles:
            shapes = (f"{name}:{'x'.join(map(str, getattr(r, part)))}" for name, r in settings.profiles.items())
            yield f"--{option}={','.join(shapes)}"
