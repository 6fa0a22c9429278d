"""A wheel runs by itself: built from a copy of the sources, installed elsewhere, started from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SOURCES = ("toolkit", "plugins", "custom_ops", "configs", "setup.py", "README.md", "LICENSE")

Run = Callable[..., str]


def pip(*arguments: str | Path) -> None:
    """Without a network."""
    subprocess.run(
        [sys.executable, "-m", "pip", *map(str, arguments), "--no-index", "--no-deps", "--quiet"], check=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools puts what an earlier build left beside the sources into a wheel, too."""
    pytest.importorskip("setuptools", reason="building a wheel needs setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip("wheel", folder, "--no-build-isolation", "--wheel-dir", folder)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the command of an installation that shares nothing with the checkout but the packages it requires."""
    site = tmp_path_factory.mktemp("installed")
    pip("install", wheel, "--target", site)
    environment = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"}

    def installed_run(*arguments: str) -> str:
        command = [str(site / "bin" / "uniad-toolkit"), *arguments]
        empty = tmp_path_factory.mktemp("empty")
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(empty.iterdir()) == []
        return done.stdout

    return installed_run


def test_it_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"toolkit", "plugins", "custom_ops", "configs"}
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
    assert {"toolkit/py.typed", "toolkit/demo/mini/checkpoint.safetensors"} <= set(names)


def test_version(wheel: Path, installed: Run) -> None:
    """That of the wheel's name."""
    assert wheel.name.split("-")[1] in installed("--version")


def test_plugins(installed: Run) -> None:
    """The toolkit's own are found without the checkout, under the wheel's version."""
    printed = installed("plugins")
    assert "plugins.occupancy.plugin" in printed
    assert "custom_ops.plugin" in printed
    assert "source tree" not in printed


def test_doctor(wheel: Path, installed: Run) -> None:
    """It can do its job."""
    assert f"uniad-toolkit {wheel.name.split('-')[1]}" in installed("doctor")
