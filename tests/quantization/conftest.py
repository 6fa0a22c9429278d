"""A bundle to be quantized, and frames for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quantization.camera_network import camera_plugins, make_bundle, make_frames
from tests.session_cache import SessionCache
from toolkit.bundle import Bundle
from toolkit.plugin.manager import PluginManager


@pytest.fixture(scope="session")
def camera() -> PluginManager:
    """Plugins of the network that sees, remembers and plans."""
    return camera_plugins()


@pytest.fixture(scope="session")
def camera_bundle(conversions: SessionCache) -> Bundle:
    """The converted network."""
    return Bundle.read(conversions.once("camera", make_bundle) / "bundle")


@pytest.fixture(scope="session")
def camera_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of five frames."""
    return make_frames(tmp_path_factory.mktemp("camera") / "frames")
