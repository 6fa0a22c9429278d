"""The default passes over the whole network, with their proof."""

from __future__ import annotations

import re

import pytest

from toolkit.bundle import Bundle
from toolkit.graph.model_file import read_model
from toolkit.graph.pipeline import rewrite
from toolkit.graph.selection import select_passes
from toolkit.plugin.manager import PluginManager


@pytest.mark.slow
def test_the_network_is_rewritten_and_proven(bundle_a: Bundle) -> None:
    """All but a few outputs are equal; these are ranked by scores, and as near as the network is to itself."""
    plugins = PluginManager.load()
    passes = select_passes(plugins.graph_passes(), (), ())
    [finding] = rewrite(read_model(bundle_a.onnx), passes, plugins.custom_ops()).checks
    found = re.fullmatch(r"equal in ONNX Runtime on random inputs: (\d+) outputs within .*", finding)
    assert found is not None, finding
    assert int(found[1]) >= 28
