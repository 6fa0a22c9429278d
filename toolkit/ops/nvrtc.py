"""Compiling one kernel source with NVRTC, which needs neither a GPU nor a driver."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import InputError
from toolkit.stops import stops_blocked

INSTALL = "install them with: pip install 'uniad-toolkit[cuda]'"

HEADERS = ("cuda_fp16.h", "crt/mma.h")
"""What kernels include: from the package of the CUDA runtime, and from that of CUDA's compiler."""


def compile_kernel(source: Path, architecture: str, macros: Mapping[str, str | int]) -> bytes:
    """Machine code (cubin) for ``sm_XY``, or PTX text for ``compute_XY``.

    Raises InputError if NVRTC or CUDA's headers are absent, or, with the compiler's first error, if the source fails.
    """
    nvrtc = load_nvrtc()
    options = [f"--gpu-architecture={architecture}", "--std=c++17", f"--include-path={cuda_headers()}"]
    options += [f"--define-macro={name}={value}" for name, value in macros.items()]
    encoded = [option.encode() for option in options]
    program = _check(nvrtc, nvrtc.nvrtcCreateProgram(source.read_bytes(), str(source).encode(), 0, [], []))
    try:
        with stops_blocked():
            (status,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise InputError(f"{source} does not compile for {architecture}: {_first_error(nvrtc, program)}")
        sizer, getter = (
            (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
            if architecture.startswith("compute_")
            else (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        )
        code = bytearray(_check(nvrtc, sizer(program)))
        _check(nvrtc, getter(program, code))
        return bytes(code)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def supported_architectures() -> tuple[str, ...]:
    """What NVRTC compiles for, as ``sm_XY``. Raises InputError if NVRTC is absent."""
    nvrtc = load_nvrtc()
    count = _check(nvrtc, nvrtc.nvrtcGetNumSupportedArchs())
    return tuple(f"sm_{number}" for number in _check(nvrtc, nvrtc.nvrtcGetSupportedArchs())[:count])


def load_nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise InputError(f"compiling kernels needs cuda-bindings and NVRTC; {INSTALL}") from error
    return nvrtc


def cuda_headers() -> Path:
    """Folder of CUDA's headers: that of the wheels if they are all there, else that of an installed toolkit."""
    import site

    packages = [Path(folder) / "nvidia" for folder in site.getsitepackages()]
    roots = [
        *(folder / name for folder in packages for name in ("cu13", "cuda_runtime")),
        Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")),
    ]
    for root in roots:
        if all((root / "include" / name).is_file() for name in HEADERS):
            return root / "include"
    raise InputError(f"CUDA's headers ({', '.join(HEADERS)}) were not found; {INSTALL}, or set CUDA_HOME")


def _check(nvrtc: Any, answer: tuple[Any, ...]) -> Any:
    status, *values = answer
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise InputError(f"NVRTC failed: {status.name}; {INSTALL}")
    return values[0] if values else None


def _first_error(nvrtc: Any, program: Any) -> str:
    log = bytearray(_check(nvrtc, nvrtc.nvrtcGetProgramLogSize(program)))
    _check(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
    lines = log.decode(errors="replace").rstrip("\0").splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")
