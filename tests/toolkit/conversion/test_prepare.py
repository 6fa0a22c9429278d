"""A checkpoint and a configuration become a network, or are refused, before anything is exported."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toolkit.small_network import SMALL, small_network
from toolkit.conversion.prepare import Prepared, prepare
from toolkit.demo.pseudo_weights import ASSET, pseudo_motion_anchors
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.weights.layouts import Weights

pytestmark = pytest.mark.thorough

Entries = dict[str, Tensor]


@pytest.fixture(scope="module")
def weights() -> Entries:
    """A checkpoint's entries for the small network."""
    return {key: value for key, value in small_network().weights().items() if key != ASSET}


def prepared(folder: Path, entries: Entries, plugins: PluginManager | None = None) -> Prepared:
    torch.save(entries, folder / "model.pth")
    assets = {ASSET: pseudo_motion_anchors(SMALL)}
    loaded = plugins or PluginManager.load()
    return prepare(folder / "model.pth", loaded, SMALL, assets, Weights.STORED, lambda step: nullcontext())


def assert_holds(result: Prepared, entries: Entries) -> None:
    loaded = result.network.weights()
    assert all(torch.equal(loaded[key], value) for key, value in entries.items())


def test_the_network_has_the_weights_of_the_checkpoint(tmp_path: Path, weights: Entries) -> None:
    result = prepared(tmp_path, weights)
    assert_holds(result, weights)
    assert result.notes == ()
    assert result.left_out == {}


def test_a_prefix_of_all_entries_is_left_out_with_a_note(tmp_path: Path, weights: Entries) -> None:
    result = prepared(tmp_path, {f"model.{key}": value for key, value in weights.items()})
    assert_holds(result, weights)
    assert result.notes == ("every entry began with 'model.', which is left out",)


def test_counters_of_training_steps_may_be_missing(tmp_path: Path, weights: Entries) -> None:
    without = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(weights)
    assert_holds(prepared(tmp_path, without), without)


def test_any_other_missing_entry_is_named(tmp_path: Path, weights: Entries) -> None:
    without = {key: value for key, value in weights.items() if key != "img_backbone.bn1.weight"}
    with pytest.raises(InputError, match=r"1 missing, 0 unexpected(.|\n)*missing +img_backbone\.bn1\.weight"):
        prepared(tmp_path, without)
