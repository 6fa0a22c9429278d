"""The two TensorRTs: which there are, and loading one."""

from __future__ import annotations

from enum import Enum
from types import ModuleType

from toolkit.engines.tensorrt.rtx import load_tensorrt_rtx
from toolkit.errors import InputError
from toolkit.text import one_line

OLDEST = (10, 12)
"""Strongly typed networks without the weakly typed interfaces, as TensorRT 11 has them."""
INSTALL = "install it, on a machine with an NVIDIA GPU, with: pip install 'uniad-toolkit[tensorrt]'"


class Target(Enum):
    """What an engine is built by and runs on."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"

    @property
    def title(self) -> str:
        return {Target.TENSORRT: "TensorRT", Target.TENSORRT_RTX: "TensorRT for RTX"}[self]


def load_library(target: Target) -> ModuleType:
    """The Python module of a target, which needs no GPU to load. Raises InputError if it cannot be loaded."""
    return load_tensorrt() if target is Target.TENSORRT else load_tensorrt_rtx()


def load_tensorrt() -> ModuleType:
    """The module of full TensorRT. Raises InputError if it is absent, broken or too old."""
    try:
        import tensorrt
    # Its libraries can fail in any way where they are absent or do not fit the driver.
    except Exception as error:
        raise InputError(f"TensorRT cannot be loaded: {one_line(error)}; {INSTALL}") from error
    if not hasattr(tensorrt, "Builder"):  # type stubs alone leave an empty package
        raise InputError(f"TensorRT is not installed; {INSTALL}")
    if version_numbers(tensorrt.__version__) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise InputError(f"TensorRT {tensorrt.__version__} is too old; {wanted} or later is needed: {INSTALL}")
    module: ModuleType = tensorrt
    return module


def version_numbers(version: str) -> tuple[int, ...]:
    """Major and minor number of a version."""
    return tuple(int(part) for part in version.split(".")[:2])
