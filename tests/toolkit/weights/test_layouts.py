"""Wrapped, averaged and divided checkpoints are read as those of the bare model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from toolkit.errors import InputError
from toolkit.weights.checkpoint import read_checkpoint
from toolkit.weights.layouts import Weights, hiding_prefix, without_holder, without_wrappers
from toolkit.weights.stored import checkpoint_files

WEIGHTS = {"head.weight": torch.arange(12.0).reshape(3, 4), "head.bias": torch.ones(3)}
AVERAGES = {key: value + 1 for key, value in WEIGHTS.items()}


def saved(folder: Path, content: object) -> Path:
    torch.save(content, folder / "model.pth")
    return folder / "model.pth"


def assert_same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


class TestWrappers:
    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
    def test_those_of_torch_are_removed(self, tmp_path: Path, prefix: str) -> None:
        wrapped = {prefix + key: value for key, value in WEIGHTS.items()}
        assert_same(read_checkpoint(saved(tmp_path, wrapped)).state_dict, WEIGHTS)

    def test_parts_that_were_compiled_or_recomputed_too(self) -> None:
        assert without_wrappers({"a._orig_mod.b": 1, "_checkpoint_wrapped_module.c": 2, "module.d": 3}) == {
            "a.b": 1,
            "c": 2,
            "module.d": 3,
        }

    def test_the_count_of_an_averaged_model_is_no_weight(self) -> None:
        model = AveragedModel(nn.Linear(2, 2))
        assert set(without_wrappers(model.state_dict())) == {"weight", "bias"}

    def test_two_entries_do_not_become_one(self) -> None:
        both = {"_orig_mod.a": 1, "a": 2}
        assert without_wrappers(both) == both


def is_head(key: str) -> bool:
    return key.startswith("head.")


class TestHolders:
    def test_what_a_program_held_its_model_by_is_taken_away(self) -> None:
        entries = {"model.net.head.a": 1, "model.net.neck.a": 2}
        assert without_holder(entries, is_head) == ("model.net.", {"head.a": 1, "neck.a": 2})

    @pytest.mark.parametrize("key", ["head.a", "model.foot.a", "student.head.a"])
    def test_anything_else_stays(self, key: str) -> None:
        entries = {key: 1, key.replace("head.", "neck."): 2}
        assert without_holder(entries, is_head) == ("", entries)

    def test_it_stays_where_a_program_held_more_than_its_model(self) -> None:
        entries = {"model.head.a": 1, "model.neck.a": 2, "loss.a": 3}
        assert without_holder(entries, is_head) == ("", entries)

    @pytest.mark.parametrize(
        ("keys", "prefix"),
        [
            (["student.a.head.b", "student.a.neck.b"], "student.a."),
            (["loss.a", "model.head.b", "model.neck.b"], "model."),
            (["student.foot.b"], ""),
            (["a." * 1000 + "head.b"], ""),
            ([], ""),
        ],
    )
    def test_the_prefix_that_hides_known_keys(self, keys: list[str], prefix: str) -> None:
        assert hiding_prefix(keys, is_head) == prefix


INSIDE: dict[str, Any] = {
    "state_dict": WEIGHTS | {"ema_" + key.replace(".", "_"): value for key, value in AVERAGES.items()}
}
BESIDE: dict[str, dict[str, Any]] = {
    "mmengine": {"ema_state_dict": {"steps": torch.tensor(9)} | {f"module.{k}": v for k, v in AVERAGES.items()}},
    "timm": {"state_dict_ema": AVERAGES},
    "nested": {"ema": {"module": AVERAGES, "updates": 9}},
}


class TestAverages:
    @pytest.mark.parametrize("content", [INSIDE, *({"state_dict": WEIGHTS} | one for one in BESIDE.values())])
    def test_they_are_left_out_with_a_note_or_chosen(self, tmp_path: Path, content: object) -> None:
        path = saved(tmp_path, content)
        stored, averaged = read_checkpoint(path), read_checkpoint(path, Weights.EMA)
        assert_same(stored.state_dict, WEIGHTS)
        assert_same(averaged.state_dict, AVERAGES)
        assert "are left out; --weights ema takes them instead" in stored.notes[0]
        assert "in place of the others" in averaged.notes[0]

    def test_what_is_not_averaged_is_what_is_stored(self, tmp_path: Path) -> None:
        content = {"state_dict": WEIGHTS, "ema_state_dict": {"head.bias": AVERAGES["head.bias"]}}
        averaged = read_checkpoint(saved(tmp_path, content), Weights.EMA).state_dict
        assert_same(averaged, WEIGHTS | {"head.bias": AVERAGES["head.bias"]})

    def test_where_there_are_none_nothing_is_noted_and_none_can_be_chosen(self, tmp_path: Path) -> None:
        path = saved(tmp_path, WEIGHTS)
        assert read_checkpoint(path).notes == ()
        with pytest.raises(
            InputError, match=r"model\.pth holds no moving averages of its weights; leave out --weights"
        ):
            read_checkpoint(path, Weights.EMA)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """The index of a checkpoint in two parts."""
    places = dict(zip(WEIGHTS, ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), strict=True))
    for key, part in places.items():
        save_file({key: WEIGHTS[key]}, tmp_path / part)
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 60}, "weight_map": places}))
    return path


class TestParts:
    def test_they_are_read_by_their_index(self, index: Path) -> None:
        checkpoint = read_checkpoint(index)
        assert_same(checkpoint.state_dict, WEIGHTS)
        assert len(checkpoint.sha256) == 64
        assert [path.name for path in checkpoint_files(index)] == [
            index.name,
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ]

    def test_those_of_pytorch_too(self, tmp_path: Path) -> None:
        torch.save(WEIGHTS, tmp_path / "pytorch_model-00001-of-00001.bin")
        index = tmp_path / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": dict.fromkeys(WEIGHTS, "pytorch_model-00001-of-00001.bin")}))
        assert_same(read_checkpoint(index).state_dict, WEIGHTS)

    def test_another_digest_for_another_part(self, index: Path) -> None:
        before = read_checkpoint(index).sha256
        save_file({"head.bias": torch.zeros(3)}, index.parent / "model-00002-of-00002.safetensors")
        assert read_checkpoint(index).sha256 != before

    def test_one_part_alone_is_named_with_the_index(self, index: Path) -> None:
        with pytest.raises(InputError, match=r"is part 2 of 2; give their index, model\.safetensors\.index\.json$"):
            read_checkpoint(index.parent / "model-00002-of-00002.safetensors")

    @pytest.mark.parametrize(
        ("document", "message"),
        [
            (
                {"weights": {}},
                r"index\.json: field 'weight_map' is missing; give the index that was saved with the parts",
            ),
            (
                {"weight_map": {"a": 3}},
                r"index\.json is no index of a checkpoint's parts: \$\.weight_map\.a: expected str",
            ),
            ({"weight_map": {}}, r"index\.json names 0 parts; give the index"),
            ({"weight_map": {"a": "../x.pth"}}, r"names '\.\./x\.pth', which is no file beside it; give the index"),
            ({"weight_map": {"a": "absent.pth"}}, r"checkpoint .*absent\.pth cannot be read: No such file"),
            (
                {"weight_map": {"a": "model-00001-of-00002.safetensors"}},
                r"00002\.safetensors has no entry 'a'; copy index and parts again",
            ),
        ],
    )
    def test_faults_of_an_index(self, index: Path, document: object, message: str) -> None:
        index.write_text(json.dumps(document))
        with pytest.raises(InputError, match=message):
            read_checkpoint(index)
