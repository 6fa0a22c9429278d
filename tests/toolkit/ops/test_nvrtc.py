"""Compiling with NVRTC, in a process that somebody stops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STOPPED_WHILE_NVRTC_HANDLES_SIGNALS = """
import ctypes, os, signal, sys, threading, time
from pathlib import Path
from toolkit.ops.nvrtc import compile_kernel
from toolkit.stops import stops_blocked, stops_interrupt

def handler():
    action = (ctypes.c_size_t * 32)()
    ctypes.CDLL(None).sigaction(signal.SIGTERM, None, action)
    return action[0]

def stop_when_taken():
    while handler() == ours:
        time.sleep(1e-5)
    os.kill(os.getpid(), signal.SIGTERM)

with stops_interrupt() as stop:
    ours = handler()
    with stops_blocked():
        threading.Thread(target=stop_when_taken, daemon=True).start()
    compile_kernel(Path(sys.argv[1]), "sm_90", {})
sys.exit(stop.status)
"""


def test_a_stop_waits_for_nvrtc(tmp_path: Path) -> None:
    """Which takes the signals for itself meanwhile, and would end the process with a status of its own."""
    pytest.importorskip("cuda.bindings")
    source = tmp_path / "kernel.cu"
    source.write_text(
        "#include <cuda_fp16.h>\n"
        + "".join(f'extern "C" __global__ void k{i}(float* x) {{ x[{i}] += 1; }}\n' for i in range(50))
    )
    command = [sys.executable, "-c", STOPPED_WHILE_NVRTC_HANDLES_SIGNALS, str(source)]
    assert subprocess.run(command, timeout=60).returncode == 128 + 15
