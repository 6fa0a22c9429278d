"""Attention to cameras in its training form: rows that a mask selects, padded, become all rows and the mask."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.graph.camera_attention import CAMERAS, NAMES, MaskedCameras, PaddedCameras, TwoLayers, example
from tests.graph.rewriting import exported, op_types, rewritten
from toolkit.graph.deformable_attention.fuse import FUSE_DEFORMABLE_ATTENTION
from toolkit.graph.graph_pass import NearMiss, Outcome
from toolkit.graph.padded_rows.mask_instead_of_padding import MASK_INSTEAD_OF_PADDING
from toolkit.graph.pipeline import Rewritten, rewrite
from toolkit.graph.plugin import uniad_graph_passes
from toolkit.graph.selection import select_passes
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.converts

PAGE = (Path(__file__).parents[2] / "docs" / "graph-passes.md").read_text(encoding="utf-8")
FUSED = "MultiScaleDeformableAttention"


def model_of(module: nn.Module, batch: int = 1, *, dynamo: bool = True) -> onnx.ModelProto:
    """The exported module."""
    return exported(module, example(batch), dynamo=dynamo, input_names=list(NAMES))


def by_default(model: onnx.ModelProto) -> Rewritten:
    """A model after the default passes, with the proof."""
    return rewrite(model, select_passes(uniad_graph_passes()), PluginManager.load().custom_ops())


@cache
def one_layer() -> tuple[PaddedCameras, onnx.ModelProto, Rewritten]:
    """The module, its model, and that after the default passes."""
    module = PaddedCameras()
    model = model_of(module)
    return module, model, by_default(model)


def near_misses(module: nn.Module, *, dynamo: bool = True) -> tuple[NearMiss, ...]:
    """What the pass says of a module that it leaves alone."""
    model = model_of(module, dynamo=dynamo)
    result, outcome = rewritten(model, MASK_INSTEAD_OF_PADDING, compare=dynamo)
    assert not outcome.changes
    assert "NonZero" in op_types(result)
    return outcome.near_misses


def test_all_rows_are_computed_and_the_attention_is_fused() -> None:
    _, _, result = one_layer()
    types = set(op_types(result.model))
    assert FUSED in types
    assert not {"NonZero", "GatherND", "ScatterND", "ScatterElements", "GridSample", "Shape"} & types
    assert result.checks[0].startswith("equal in ONNX Runtime")


SEEN = {
    "some cells": example(seed=1)[3],
    "nothing by one camera": example(seed=2)[3] & (torch.arange(CAMERAS) != 1)[:, None, None, None],
    "everything by all cameras": torch.ones_like(example()[3]),
}


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_it_gives_what_the_module_gives(seen: Tensor) -> None:
    module, _, result = one_layer()
    assert_same(result, module, (*example(seed=3)[:3], seen))


def test_it_gives_nothing_where_no_camera_sees_anything() -> None:
    """The module itself cannot attend with no queries at all, so the masked form is the measure."""
    module, _, result = one_layer()
    masked = MaskedCameras()
    masked.load_state_dict(module.state_dict())
    *given, seen = example(seed=3)
    assert_same(result, masked, (*given, torch.zeros_like(seen)))


def assert_same(result: Rewritten, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """ONNX Runtime gives for some inputs what the module gives."""
    session = onnxruntime.InferenceSession(result.model.SerializeToString(), providers=["CPUExecutionProvider"])
    [output] = session.run(None, {name: given.numpy() for name, given in zip(NAMES, inputs, strict=True)})
    with torch.no_grad():
        np.testing.assert_allclose(output, module(*inputs).numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "batch", "count"), [(TwoLayers(), 1, 2), (PaddedCameras(), 2, 1)])
def test_every_layer_and_batch_is_rewritten(module: nn.Module, batch: int, count: int) -> None:
    result = by_default(model_of(module, batch))
    assert op_types(result.model).count(FUSED) == count
    assert "NonZero" not in op_types(result.model)
    assert result.checks[0].startswith("equal in ONNX Runtime")


def test_the_pass_is_proven_alone() -> None:
    """`rewritten` compares with the model as it was, which every mask of random inputs suits."""
    _, model, _ = one_layer()
    result, outcome = rewritten(model, MASK_INSTEAD_OF_PADDING)
    [change] = outcome.changes
    assert change.what == "3 selections of 12 rows, padded to the longest, are all rows and a mask"
    assert "NonZero" not in op_types(result)


class Mixed(PaddedCameras):
    def changed(self, attended: Tensor) -> Tensor:
        return attended.softmax(2)


class Counted(PaddedCameras):
    def changed(self, attended: Tensor) -> Tensor:
        return attended / attended.shape[2]


class OtherCamera(PaddedCameras):
    def changed(self, attended: Tensor) -> Tensor:
        return attended.flip(1)


class Ordered(PaddedCameras):
    def changed(self, attended: Tensor) -> Tensor:
        return attended * torch.arange(attended.shape[2])[:, None]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Mixed(), "mixes the rows"),
        (OtherCamera(), "are not computed each from the padded one in its place"),
        pytest.param(Counted(), "depends on how many rows are selected", marks=pytest.mark.slow),
        pytest.param(Ordered(), "depends on how many rows are selected", marks=pytest.mark.slow),
    ],
)
def test_rows_that_are_not_computed_one_by_one_stay_as_they_are(module: nn.Module, reason: str) -> None:
    [near_miss] = near_misses(module)
    assert reason in near_miss.reason
    assert "compute all rows and mask them" in near_miss.remedy


def test_what_the_tracing_exporter_fixed_is_named_with_the_remedy() -> None:
    """It runs for masks that select as many rows as the traced one, and not for others: nothing can be proven equal."""
    [near_miss] = near_misses(PaddedCameras(), dynamo=False)
    assert "ScatterND" in near_miss.node
    assert "it is right for that mask alone" in near_miss.reason
    assert "dynamo=True" in near_miss.remedy


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
def test_the_masked_form_gives_the_same_and_needs_no_pass(dynamo: bool) -> None:
    padded, masked = PaddedCameras(), MaskedCameras()
    masked.load_state_dict(padded.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(masked(*example(2)), padded(*example(2)))
    result, outcome = rewritten(model_of(masked, dynamo=dynamo), FUSE_DEFORMABLE_ATTENTION)
    assert len(outcome.changes) == 1
    assert "NonZero" not in op_types(result)


def test_the_page_has_the_masked_form() -> None:
    """Of the sums alone: what comes before and after is as it was."""
    module = PaddedCameras()
    queries, features, reference, seen = example(2)
    names: dict[str, Any] = {
        "torch": torch,
        "self": SimpleNamespace(
            num_cams=CAMERAS,
            deformable_attention=lambda query, value, reference_points, **_: module.attention(
                query, value, reference_points
            ),
        ),
        **{"query": queries, "key": features, "value": features, "reference_points_cam": reference, "bev_mask": seen},
        **{"spatial_shapes": None, "level_start_index": None},
    }
    exec(PAGE.partition("## Rows that masks select")[2].partition("```python")[2].partition("```")[0], names)
    cameras = (seen.sum(-1) > 0).permute(1, 2, 0).sum(-1).clamp(min=1.0)
    with torch.no_grad():
        result = module.project(names["slots"] / cameras[..., None]) + queries
        torch.testing.assert_close(result, module(queries, features, reference, seen))


class Calibrated(PaddedCameras):
    """What each camera sees is stored in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.visible = nn.Buffer(example()[3])

    def forward(self, queries: Tensor, features: Tensor, reference: Tensor, seen: Tensor) -> Tensor:
        return super().forward(queries, features, reference, self.visible)


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
def test_a_constant_mask_is_folded(dynamo: bool) -> None:
    result = by_default(model_of(Calibrated(), dynamo=dynamo))
    assert FUSED in op_types(result.model)
    assert "NonZero" not in op_types(result.model)
    assert result.checks[0].startswith("equal in ONNX Runtime")


def test_masks_without_padding_pass_without_a_word() -> None:
    class Put(nn.Module):
        def forward(self, queries: Tensor, features: Tensor, reference: Tensor, seen: Tensor) -> Tensor:
            queries = queries.clone()
            queries[0, seen[0, 0].sum(-1).nonzero().squeeze(-1)] = 0.5
            return queries

    _, outcome = rewritten(model_of(Put()), MASK_INSTEAD_OF_PADDING)
    assert outcome == Outcome()
