"""The command line starts without the libraries that only some commands need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.plugin.manager import BUILTIN_PLUGINS
from toolkit.versions import PACKAGE, package_version

pytestmark = pytest.mark.thorough

HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "cv2", "matplotlib"}
START = """
import json, sys
from toolkit.cli.main import run

status = run(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)
"""


def start(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints in a process of its own, and all modules that it imported."""
    process = subprocess.run([sys.executable, "-c", START, *arguments], capture_output=True, text=True, check=True)
    status, modules = json.loads(process.stderr)
    assert status == 0
    return process.stdout, set(modules)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["convert", "--help"], ["run", "--help"]], ids=" ".join
)
def test_help_and_version_import_no_heavy_library(arguments: list[str]) -> None:
    """Although every plugin of the toolkit is loaded, for it may add commands."""
    _, modules = start(*arguments)
    assert modules >= set(BUILTIN_PLUGINS)
    assert not modules & HEAVY


def test_version() -> None:
    printed, _ = start("--version")
    assert printed.strip() == package_version(PACKAGE)


def test_a_plugin_file_may_import_them(tmp_path: Path) -> None:
    """It is its own choice; the toolkit's own plugins import models when they build them."""
    plugin = tmp_path / "heavy.py"
    hook = "@hookimpl\ndef uniad_submodules():\n    return ()\n"
    plugin.write_text(f"import cv2\nfrom toolkit.hookspecs import hookimpl\n{hook}")
    _, modules = start("--version", "--plugin", str(plugin))
    assert "cv2" in modules
