"""The toolkit's own submodules, joined."""

from __future__ import annotations

import functools

from toolkit.config.model import ModelConfig
from toolkit.plugin.manager import PluginManager
from toolkit.specs import Submodule, TensorSpec
from toolkit.wiring import NetworkGraph, join


@functools.cache
def official_graph() -> NetworkGraph:
    """All of them at their official size."""
    return join(PluginManager.load().submodules(), ModelConfig())


def inputs_of(submodule: Submodule) -> tuple[TensorSpec, ...]:
    """What one of them reads."""
    return official_graph().inputs_of(submodule)
