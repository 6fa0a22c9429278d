"""The machine: processor, memory, disk, GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from toolkit.doctor.check import Check, Status
from toolkit.text import one_line

GIB = 2**30
CONVERSION_MEMORY = 4 * GIB
"""A conversion of UniAD-tiny took 3.6 GiB at its highest."""
BUNDLE_SPACE = GIB
"""A bundle of UniAD-tiny takes 0.66 GiB."""
QUERY_SECONDS = 10


def check_machine(folder: Path) -> list[Check]:
    """Processor, memory, and the disk that holds `folder`."""
    usable, present = len(os.sched_getaffinity(0)), os.cpu_count()
    free = shutil.disk_usage(folder).free
    return [
        Check("processor", Status.OK, f"{usable} of {present} threads usable"),
        check_memory(Path("/proc/meminfo")),
        Check("disk", Status.OK, f"{free / GIB:.1f} GiB free at {folder}")
        if free >= BUNDLE_SPACE
        else Check(
            "disk",
            Status.FAILED,
            f"{free / GIB:.1f} GiB free at {folder}",
            f"a bundle needs {BUNDLE_SPACE / GIB:.0f} GiB: free some, or write elsewhere",
        ),
    ]


def check_memory(meminfo: Path) -> Check:
    """Main memory, as the kernel tells it; a note where it does not, or where a conversion may not fit."""
    try:
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        total, available = (int(lines[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError) as error:
        return Check("memory", Status.NOTE, f"unknown: {one_line(error)}", "a conversion takes up to 4 GiB")
    found = f"{available / GIB:.1f} of {total / GIB:.1f} GiB available"
    if available < CONVERSION_MEMORY:
        return Check("memory", Status.NOTE, found, "a conversion takes up to 4 GiB: close other programs")
    return Check("memory", Status.OK, found)


def check_gpu() -> list[Check]:
    """The NVIDIA driver and whether torch can use a GPU. Without one everything runs on the CPU."""
    return [check_driver(), check_torch_cuda()]


def check_driver(program: str = "nvidia-smi") -> Check:
    """GPUs and driver version as the driver's own tool tells them."""
    query = "--query-gpu=name,compute_cap,memory.total,driver_version"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=QUERY_SECONDS,
            check=True,
        )
    except FileNotFoundError:
        return Check("driver", Status.NOTE, f"no NVIDIA driver: {program} is not there", "everything runs on the CPU")
    except (OSError, subprocess.SubprocessError) as error:
        return Check("driver", Status.NOTE, one_line(error), "repair the NVIDIA driver to use its GPU")
    gpus = [" ".join(line.split()) for line in done.stdout.splitlines()]
    return Check("driver", Status.OK, "; ".join(gpus))


def check_torch_cuda() -> Check:
    """Whether torch sees a GPU, and whether a kernel of its build runs on it."""
    import torch

    if torch.version.cuda is None:
        return Check(
            "torch on GPU", Status.NOTE, f"{torch.__version__} is built without CUDA", "everything runs on the CPU"
        )
    built = f"built for CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        return Check("torch on GPU", Status.NOTE, f"{built}, but no GPU can be used", "see the driver above")
    name, capability = torch.cuda.get_device_name(), ".".join(map(str, torch.cuda.get_device_capability()))
    found = f"{built}: {name}, compute capability {capability}"
    try:
        torch.ones(1, device="cuda").add(1).item()
    except RuntimeError as error:
        return Check("torch on GPU", Status.NOTE, f"{found}: {one_line(error)}", "install a torch for this GPU")
    return Check("torch on GPU", Status.OK, found)
