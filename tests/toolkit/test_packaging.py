"""What `pip install` puts in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def distribution() -> Any:
    """What setup.py says, without doing it."""
    pytest.importorskip("setuptools", reason="reading setup.py needs setuptools")
    from distutils.core import run_setup  # which setuptools has taken over

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return run_setup("setup.py", stop_after="init")


def folder(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


def tops(distribution: Any) -> list[Path]:
    """Folders of the packages that lie in no other."""
    return [folder(package) for package in distribution.packages if "." not in package]


def test_every_module_is_in_a_package(distribution: Any) -> None:
    modules = {path.parent for top in tops(distribution) for path in top.rglob("*.py")}
    assert modules == {folder(package) for package in distribution.packages}


def test_every_file_beside_the_modules_is_installed(distribution: Any) -> None:
    """Kernels, schemas, templates and configurations."""
    others = {path for top in tops(distribution) for path in top.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    installed = {
        path
        for package, patterns in distribution.package_data.items()
        for pattern in patterns
        for path in folder(package).glob(pattern)
    }
    assert others == installed
