"""The op that `new-op` writes, on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from toolkit.ops.scaffold import write_op


def test_kernel_of_a_new_op(tmp_path: Path) -> None:
    """Its own test of the kernel passes and is not skipped."""
    folder = tmp_path / "soft_gate"
    folder.mkdir()
    write_op("soft_gate", folder)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "soft_gate", "-k", "kernel_equals_eager"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout
