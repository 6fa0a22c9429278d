"""Which tracks are lost and which free queries carried along by chance: with the reference's draws, and in general."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from plugins.tracking import randomness
from plugins.tracking.matching import survives
from plugins.tracking.randomness import drop, false_positives
from tests.training.conftest import GoldenClip
from tests.training.test_tracking import CONFIG, tracked_frames

DROP, FALSE_POSITIVES = 0.1, 0.3


@pytest.fixture
def golden_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the reference's variant: of the survivors number 1 is lost, each third of the rest asks for a query."""

    def drawn(rows: Tensor, probability: float) -> Tensor:
        numbers = torch.arange(len(rows))
        return numbers == 1 if probability == DROP else numbers % 3 == 0

    monkeypatch.setattr(randomness, "chance", drawn)


@pytest.mark.usefixtures("golden_draws")
def test_with_the_reference_s_draws_its_tracks_enter_the_second_frame(golden: Path, stage1_clip: GoldenClip) -> None:
    """Up to there the variant's network outputs are those that are stored. What is carried along has no object's id."""
    _, second = json.loads((golden / "training" / "stage1_fp_assignments.json").read_text())["frames"][:2]
    first = next(tracked_frames(stage1_clip))
    carried = drop(survives(first.matches).nonzero().squeeze(1), DROP)
    free = (~first.matches.carrying).nonzero().squeeze(1)
    along = false_positives(free, first.scores, carried, FALSE_POSITIVES)

    entered = {track["query"]: track["obj_id"] for track in second["tracks"] if track["query"] >= CONFIG.queries}
    assert dict(enumerate(first.matches.ids[carried].tolist(), start=CONFIG.queries)) == entered
    assert CONFIG.queries + len(carried) + len(along) == second["num_queries"]
    assert (first.matches.ids[along] < 0).all()


@pytest.mark.usefixtures("golden_draws")
def test_with_the_reference_s_draws_as_many_enter_every_frame(golden: Path) -> None:
    """By the survivors that were stored."""
    frames = json.loads((golden / "training" / "stage1_fp_assignments.json").read_text())["frames"]
    for frame, following in itertools.pairwise(frames):
        survivors = [track["query"] for track in frame["tracks"] if track["kept_by_qim"]]
        carried = drop(torch.tensor(survivors, dtype=torch.int64), DROP)
        along = false_positives(torch.arange(10), torch.rand(10), carried, FALSE_POSITIVES)
        assert CONFIG.queries + len(carried) + len(along) == following["num_queries"]


def test_the_likeliest_free_queries_are_carried_along() -> None:
    """As many as there are tracks, where each asks for one."""
    scores = torch.tensor([0.9, 0.1, 0.8, 0.7, 0.95])
    assert false_positives(torch.tensor([1, 2, 3, 4]), scores, torch.tensor([0, 0]), 1.0).tolist() == [4, 2]


def test_there_may_be_fewer_free_queries_than_asked_for() -> None:
    assert false_positives(torch.tensor([1]), torch.rand(4), torch.arange(3), 1.0).tolist() == [1]


def test_without_chance_all_tracks_stay_alone() -> None:
    rows = torch.arange(50)
    assert torch.equal(drop(rows, 0.0), rows)
    assert not len(false_positives(rows, torch.rand(50), rows, 0.0))


def test_chance_takes_its_share_in_the_order_of_the_rows() -> None:
    """Within five deviations of a binomial distribution."""
    torch.manual_seed(0)
    rows = torch.arange(10_000)
    left = drop(rows, DROP)
    assert len(left) == pytest.approx(9_000, abs=150)
    assert torch.equal(left, left.sort().values)
    assert len(false_positives(rows, torch.rand(10_000), rows, FALSE_POSITIVES)) == pytest.approx(3_000, abs=230)
