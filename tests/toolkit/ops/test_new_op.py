"""`new-op` writes an op that works, and the page that walks through adding one holds."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.cli.main import run
from toolkit.ops.scaffold import camel_case, write_op

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs/new-op.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python|cuda) ?(\S*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""Language, file and text of each piece of code on the page."""

COMMANDS = {
    "uniad-toolkit": [sys.executable, "-c", "from toolkit.cli.main import main; main()"],
    "python": [sys.executable],
}


def execute(command: str, folder: Path) -> str:
    """Output of a shell command, which must succeed, with the interpreter and the toolkit under test."""
    program, *arguments = shlex.split(command)
    ended = subprocess.run(
        [*COMMANDS[program], *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def replace_test(path: Path, test: str) -> None:
    """Put a test function in the place of the one of the same name."""
    text = path.read_text(encoding="utf-8")
    name = test.partition("(")[0]
    changed, count = re.subn(rf"^{name}\(.*?(?=^(?:def|@|\Z))", f"{test}\n\n", text, flags=re.MULTILINE | re.DOTALL)
    assert count == 1, f"{name} is not in {path}"
    path.write_text(changed, encoding="utf-8")


def test_op_is_a_package_with_a_test(tmp_path: Path) -> None:
    assert run(["new-op", "soft_gate", "-o", str(tmp_path / "soft_gate")]) == 0
    assert sorted(file.name for file in (tmp_path / "soft_gate").iterdir()) == [
        "__init__.py",
        "kernel.cu",
        "op.py",
        "test_soft_gate.py",
    ]


def test_generated_op_is_named_throughout(tmp_path: Path) -> None:
    write_op("soft_gate", tmp_path)
    text = "".join(file.read_text() for file in tmp_path.iterdir())
    assert not re.search("new.?op", text, re.IGNORECASE)
    assert {"soft_gate", "SoftGate", "SOFT_GATE"} <= set(re.findall(r"\w+", text))


@pytest.mark.slow
def test_walk_through(tmp_path: Path) -> None:
    """Every piece of code on the page, in its order; the first is the op as generated, and its test."""
    for language, file, text in BLOCKS:
        if language == "bash":
            for command in text.splitlines():
                execute(command, tmp_path)
        elif "/test_" in file:
            replace_test(tmp_path / file, text)
        else:
            (tmp_path / file).write_text(text, encoding="utf-8")
    assert list((tmp_path / "kernels").glob("lane_distance-sm_120-*.cubin"))


@pytest.mark.parametrize("name", ["Gate", "soft-gate", "2d", "class", "soft__gate", "gate_", ""])
def test_impossible_name(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", name, "-o", str(tmp_path / "op")]) == 2
    assert f"op name {name!r} is not possible" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_name_of_another_op(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", "inverse", "-o", str(tmp_path / "op")]) == 2
    assert "there is an op named Inverse already" in capsys.readouterr().err


def test_existing_folder_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new-op", "gate", "-o", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "expected"), [("gate", "Gate"), ("soft_gate", "SoftGate"), ("gate_2d", "Gate2d")])
def test_camel_case(name: str, expected: str) -> None:
    assert camel_case(name) == expected
