"""A command whose output nobody reads, or that has no room for it, ends without a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.streams import guarded

pytestmark = pytest.mark.thorough

FULL = Path("/dev/full")
"""Takes nothing: every write fails as on a full disk."""
COMMAND = f"{sys.executable} -c 'from toolkit.cli.main import main; main()'"
PRINTER = """
from pathlib import Path

import typer
from toolkit.storage.claims import claim_folder
from toolkit.hookspecs import hookimpl
from toolkit.storage.outputs import new_folder

@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    @app.command()
    def write(output: Path) -> None:
        with new_folder(claim_folder(output, None)) as folder:
            for number in range(100_000):
                if number % 10_000 == 0:
                    (folder / str(number)).write_text("")
                print(number)
        print("written")
"""
WRITE = f"{COMMAND} write out --plugin printer.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a plugin that adds the command `write`, which prints much while it writes."""
    (tmp_path / "printer.py").write_text(PRINTER)
    return tmp_path


def shell(line: str, folder: Path) -> tuple[int, str, str]:
    """Exit status, output and errors of a line of bash."""
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_reader_that_leaves(folder: Path) -> None:
    """The command ends quietly, and takes away what it has begun."""
    assert shell(f"{WRITE} | head -1; exit ${{PIPESTATUS[0]}}", folder) == (141, "0\n", "")
    assert [path.name for path in folder.iterdir()] == ["printer.py"]


@pytest.mark.parametrize("arguments", ["--help", "plugins"])
def test_reader_that_left_before(arguments: str, folder: Path) -> None:
    """What was not yet written when the command ends is no reason for a word either."""
    status, _, errors = shell(f"{COMMAND} {arguments} | true; exit ${{PIPESTATUS[0]}}", folder)
    assert status in (0, 141)
    assert errors == ""


@pytest.mark.skipif(not FULL.exists(), reason=f"needs {FULL}")
def test_full_output(folder: Path) -> None:
    """One line says that it is about the output, not about the files that are being written."""
    status, _, errors = shell(f"{WRITE} > {FULL}", folder)
    assert status == 2
    assert errors == (
        "error: the standard output cannot be written: No space left on device; free space, or send it somewhere else\n"
    )
    assert [path.name for path in folder.iterdir()] == ["printer.py"]


@pytest.mark.skipif(not FULL.exists(), reason=f"needs {FULL}")
@pytest.mark.parametrize("redirection", [f"2>{FULL}", "2>&-", ">&- 2>&-"])
def test_errors_that_cannot_be_shown(redirection: str, folder: Path) -> None:
    """The status tells all the same."""
    assert shell(f"{COMMAND} write printer.py --plugin printer.py {redirection}", folder) == (2, "", "")


def test_closed_output(folder: Path) -> None:
    """The command does its work; nothing it prints gets into its files."""
    status, _, errors = shell(f"{WRITE} >&-", folder)
    assert (status, errors) == (0, "")
    assert {path.read_text() for path in (folder / "out").iterdir()} == {""}


def test_characters_that_the_encoding_lacks(tmp_path: Path) -> None:
    """Tables have some; a terminal of another language's encoding shows their escapes."""
    with (tmp_path / "out").open("w", encoding="ascii") as file:
        print("±51.2 m", file=guarded(file), flush=True)
    assert (tmp_path / "out").read_text() == "\\xb151.2 m\n"


def test_deleted_working_folder(folder: Path) -> None:
    """Relative paths mean nothing there."""
    status, output, errors = shell(f"mkdir gone; cd gone; rmdir ../gone; {COMMAND} inspect model.pth", folder)
    assert (status, output) == (2, "")
    assert errors == ("error: the working folder cannot be used: No such file or directory; change to another one\n")
