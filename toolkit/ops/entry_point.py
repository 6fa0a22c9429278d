"""The entry point of a compiled kernel, read from its PTX: what a launch gives must be what the kernel takes."""

from __future__ import annotations

import re

from toolkit.errors import InputError
from toolkit.ops.kernel import Kernel, Launch

ENTRY = re.compile(r"\.entry\s+(\w+)\s*\((.*?)\)", re.DOTALL)
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)")
NAMES = {"u64": "a pointer", "u32": "an int", "f32": "a float", "f64": "a double", "b8": "a struct"}
"""What a parameter of a PTX type is in CUDA; NVRTC writes a 64-bit integer as it writes a pointer."""


def entry_points(ptx: bytes) -> dict[str, tuple[str, ...]]:
    """The PTX types of the parameters of each entry point."""
    text = ptx.decode(errors="replace")
    return {name: tuple(PARAMETER.findall(parameters)) for name, parameters in ENTRY.findall(text)}


def check_entry(kernel: Kernel, launch: Launch, ptx: bytes, inputs: int, outputs: int) -> None:
    """Raise InputError, naming the source, unless it has the kernel's entry point with the parameters of its launch.

    These are a pointer for each input, an int for each integer of the launch, and a pointer for each output.
    """
    found = entry_points(ptx)
    if kernel.entry not in found:
        mangled = [name for name in found if re.fullmatch(rf"_Z\d+{re.escape(kernel.entry)}\D.*", name)]
        if mangled:
            raise InputError(f'{kernel.source}: {kernel.entry!r} has another name in C++; declare it extern "C"')
        known = ", ".join(found) or "none"
        raise InputError(f"{kernel.source} has no entry point {kernel.entry!r}; it has {known}")
    expected = (*["u64"] * inputs, *["u32"] * len(launch.integers), *["u64"] * outputs)
    taken = found[kernel.entry]
    if len(taken) != len(expected):
        raise InputError(
            f"{kernel.source}: {kernel.entry!r} takes {len(taken)} parameters, but its launch gives {len(expected)}: "
            f"inputs {inputs}, integers of the plan {len(launch.integers)}, outputs {outputs}"
        )
    for position, (kind, given) in enumerate(zip(taken, expected, strict=True), start=1):
        if kind != given:
            raise InputError(
                f"{kernel.source}: parameter {position} of {kernel.entry!r} is {NAMES.get(kind, kind)}, but its launch "
                f"gives {NAMES[given]}; first come inputs, then integers of the plan, then outputs"
            )
