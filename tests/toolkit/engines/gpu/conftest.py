"""What tests of kept networks share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.toy_bundle import write_toy_bundle
from toolkit.bundle import Bundle
from toolkit.engines.gpu import kept
from toolkit.plugin.manager import PluginManager


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, plugins: PluginManager) -> Bundle:
    return write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", plugins)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything is kept."""
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept" / "networks"


@pytest.fixture
def said() -> list[str]:
    return []
