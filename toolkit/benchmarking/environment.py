"""Where a benchmark ran: machine, versions, threads, memory."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from toolkit.versions import PACKAGE, installed_version, package_version

PACKAGES = (
    "torch",
    "triton",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "opencv-python-headless",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
)
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Memory:
    """Peak memory in bytes: `resident` of the process since it started, `gpu` of torch's tensors (None without)."""

    resident: int
    gpu: int | None


def peak_memory() -> Memory:
    """Up to now. Linux counts resident memory in KiB."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Memory(resident, torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None)


def environment(session: str) -> dict[str, str]:
    """The date, and what else decides about a session's times."""
    cores = len(os.sched_getaffinity(0))
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "CPU": cpu_model(CPUINFO),
        "cores": f"{cores} of {os.cpu_count()} usable",
        "threads": str(cores if session == "onnxruntime" else torch.get_num_threads()),
        "system": platform.platform(),
        "Python": platform.python_version(),
        "toolkit": package_version(PACKAGE),
    }
    if torch.cuda.is_available():
        found["GPU"] = torch.cuda.get_device_name()
        found["CUDA"] = str(torch.version.cuda)
    versions = {package: installed_version(package) for package in PACKAGES}
    return found | {package: version for package, version in versions.items() if version}


def cpu_model(cpuinfo: Path) -> str:
    """The processor's name as Linux tells it, or else its architecture."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
