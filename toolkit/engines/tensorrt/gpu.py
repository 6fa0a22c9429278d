"""The GPU at hand, asked of its driver alone, so that no other package is needed."""

from __future__ import annotations

import ctypes

DRIVER = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""Attributes of a device, in the numbering of the CUDA driver."""


def compute_capability(device: int = 0) -> str | None:
    """The compute capability of a GPU, such as "8.6"; None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    handle, numbers = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device):
        return None
    for number, attribute in zip(numbers, (CAPABILITY_MAJOR, CAPABILITY_MINOR), strict=True):
        if driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle):
            return None
    return f"{numbers[0].value}.{numbers[1].value}"
