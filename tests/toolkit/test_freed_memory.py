"""Memory that a process keeps is not cleared again by the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, threading
import numpy as np
from toolkit.freed_memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def work():
    for _ in range(20):
        one, other = np.ones(4_320_000, np.uint8), np.ones(4_320_000, np.uint8)
        del one, other
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is done")
def test_pages_are_cleared_once() -> None:
    counts = {
        way: int(subprocess.run([sys.executable, "-c", SCRIPT, way], check=True, capture_output=True).stdout)
        for way in ("kept", "given back")
    }
    assert counts["kept"] < counts["given back"] / 5
