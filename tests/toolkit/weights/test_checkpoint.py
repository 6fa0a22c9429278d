"""Checkpoints: every layout a training leaves behind is read; everything else is refused in one clear line."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import sys
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from toolkit.errors import InputError
from toolkit.weights.checkpoint import load_checkpoint, match_weights, printable

Save = Callable[..., Path]


@pytest.fixture
def weights() -> OrderedDict[str, Tensor]:
    return OrderedDict(
        {"head.weight": torch.randn(3, 4), "head.bias": torch.zeros(3), "norm.num_batches_tracked": torch.tensor(1000)}
    )


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(content: Any, **options: Any) -> Path:
        torch.save(content, tmp_path / "model.pth", **options)
        return tmp_path / "model.pth"

    return save


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def refusal(path: Path) -> str:
    """The message with which a checkpoint is refused: one line that begins with the file."""
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"checkpoint {path}")
    assert "\n" not in message
    return message


class RunsCode:
    """Leaves a file behind when a pickle of it is loaded carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.mark)!r}, 'w')",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_reads_weights_and_meta_of_an_mmcv_checkpoint(
    weights: OrderedDict[str, Tensor], save: Save, zipped: bool
) -> None:
    meta = {"epoch": 20, "time": "Mon", "CLASSES": ("car", "truck"), "hook_msgs": {"best": np.float64(0.5)}}
    content = {"meta": meta, "state_dict": weights, "optimizer": {"param_groups": [{"lr": 2e-4}]}}
    path = save(content, _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint(path)
    assert_same(checkpoint.state_dict, weights)
    assert checkpoint.meta == meta
    assert checkpoint.path == path
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.sha256)


def test_reads_a_bare_state_dict(weights: OrderedDict[str, Tensor], save: Save) -> None:
    checkpoint = load_checkpoint(str(save(weights)))
    assert_same(checkpoint.state_dict, weights)
    assert checkpoint.meta == {}


def test_reads_safetensors(weights: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    save_file(weights, tmp_path / "model.safetensors", {"epoch": "20"})
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    assert_same(checkpoint.state_dict, {key: weights[key] for key in checkpoint.state_dict})
    assert len(checkpoint.state_dict) == len(weights)
    assert checkpoint.meta == {"epoch": "20"}


def test_removes_the_prefix_of_distributed_training(weights: OrderedDict[str, Tensor], save: Save) -> None:
    wrapped = {f"module.{key}": value for key, value in weights.items()}
    assert_same(load_checkpoint(save({"state_dict": wrapped})).state_dict, weights)


def test_leaves_out_moving_averages(weights: OrderedDict[str, Tensor], save: Save) -> None:
    averages = {"ema_head_weight": torch.zeros(3, 4), "ema_head_bias": torch.zeros(3)}
    content = {"state_dict": weights | averages, "ema_state_dict": weights}
    assert_same(load_checkpoint(save(content)).state_dict, weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype, save: Save) -> None:
    loaded = load_checkpoint(save({"w": torch.full((2, 2), 0.5, dtype=dtype)})).state_dict["w"]
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, torch.full((2, 2), 0.5))


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 5}])
def test_refuses_to_run_code(
    options: dict[str, Any], weights: OrderedDict[str, Tensor], save: Save, tmp_path: Path
) -> None:
    message = refusal(save({"state_dict": weights, "meta": RunsCode(tmp_path / "mark")}, **options))
    assert re.search(r"refused: it names '(builtins\.)?eval'", message)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_refuses_a_plain_pickle_that_runs_code(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(RunsCode(tmp_path / "mark"), protocol))
    assert re.search(r"refused: it names '(builtins\.)?eval'", refusal(path))
    assert not (tmp_path / "mark").exists()


def test_refuses_objects_that_nobody_knows_to_be_harmless(weights: OrderedDict[str, Tensor], save: Save) -> None:
    message = refusal(save({"state_dict": weights, "share": Fraction(1, 3)}))
    assert "'fractions.Fraction'" in message
    assert "torch.save({'state_dict': torch.load(file, weights_only=False)['state_dict']}, other)" in message


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_what_trainings_keep_beside_the_weights_is_read_without_what_it_is_made_of(
    weights: OrderedDict[str, Tensor], save: Save, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log with methods of its own class, settings, paths and dates; the module of the log is gone when it is read."""
    module = ModuleType("mmengine.logging.history_buffer")
    exec("class HistoryBuffer:\n    def mean(self):\n        return 0", module.__dict__)
    module.HistoryBuffer.__module__ = module.__name__
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    log = module.HistoryBuffer()
    log.history, log.methods = np.arange(3.0), {"mean": module.HistoryBuffer.mean}
    counts = defaultdict(int, epochs=20)
    meta = {"epoch": 20, "counts": counts, "path": Path("a/b"), "time": datetime(2024, 5, 6, tzinfo=UTC)}
    content = {"message_hub": {"loss": log}, "args": argparse.Namespace(lr=1e-4), "meta": meta, "state_dict": weights}
    path = save(content, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, module.__name__)
    checkpoint = load_checkpoint(path)
    assert_same(checkpoint.state_dict, weights)
    assert (checkpoint.meta["epoch"], checkpoint.meta["counts"]) == (20, {"epochs": 20})
    assert printable(checkpoint.meta) == {"epoch": 20}


def test_a_stand_in_is_no_weight(weights: OrderedDict[str, Tensor], save: Save) -> None:
    assert "entry 'head.path' (Inert) is not a dense" in refusal(save(weights | {"head.path": Path("a/b")}))


def test_long_logs_are_named(weights: OrderedDict[str, Tensor], save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.weights.torch_file.MAX_PICKLE_BYTES", 2000)
    message = refusal(save({"state_dict": weights, "log": list(range(2000))}))
    assert (
        "has more than 2000 bytes besides its tensors, such as a long log; have its owner save the weights" in message
    )


def test_refuses_a_pickle_protocol_that_torch_cannot_check(weights: OrderedDict[str, Tensor], save: Save) -> None:
    assert "torch.save(model.state_dict(), file)" in refusal(save(weights, pickle_protocol=4))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([torch.ones(2)], "holds no state dict but a list"),
        ({}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"state_dict": None}, "holds no weights"),
        ({"model": {"w": torch.ones(2)}, "epoch": 3}, "entry 'model' (dict) is not a dense, named tensor"),
        ({"w": torch.ones(2), "epoch": 3}, "entry 'epoch' (int)"),
        ({"w": torch.eye(2).to_sparse()}, "entry 'w' (Tensor)"),
        ({"w": torch.ones(1).expand(10**6, 10**6)}, "entry 'w' (Tensor)"),
        ({"w": torch.ones(2, dtype=torch.complex64)}, "entry 'w' (Tensor)"),
        ({0: torch.ones(2)}, "entry 0 (Tensor)"),
        ({"v": torch.ones(2), "w": torch.tensor([1.0, torch.nan])}, "NaN or infinite values in 'w'"),
        ({f"w{i}": torch.tensor(torch.inf) for i in range(5)}, "values in 'w0', 'w1', 'w2' and 2 more"),
        ({"w": torch.tensor(1e300, dtype=torch.float64)}, "NaN or infinite values in 'w'"),
    ],
)
def test_refuses_what_is_no_set_of_finite_weights(content: Any, expected: str, save: Save) -> None:
    assert expected in refusal(save(content))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"<html>Not found</html>", "neither a PyTorch nor a safetensors file: it starts with b'<html>Not"),
        (b"version https://git-lfs.github.com/spec/v1", "it starts with b'version"),
        (b"PK\x03\x04 cut off", "is damaged"),
        (b"\x80\x02 no pickle", "is damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "damaged safetensors file"),
    ],
)
def test_refuses_foreign_files(data: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    assert expected in refusal(path)


def test_refuses_other_zip_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    assert "no PyTorch checkpoint" in refusal(tmp_path / "arrays.npz")


def test_refuses_compressed_files(weights: OrderedDict[str, Tensor], save: Save, tmp_path: Path) -> None:
    """They could grow to any size."""
    with zipfile.ZipFile(save(weights)) as plain, zipfile.ZipFile(tmp_path / "packed.pth", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "is compressed, so its size is unknown; write it again with torch.save" in refusal(tmp_path / "packed.pth")


def test_refuses_missing_files_and_directories(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.pth")
    assert "is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("layout", ["zip", "legacy", "safetensors"])
def test_refuses_a_checkpoint_cut_off_anywhere(
    layout: str, weights: OrderedDict[str, Tensor], save: Save, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    if layout == "safetensors":
        save_file(weights, path)
    else:
        save(weights, _use_new_zipfile_serialization=layout == "zip")
    data = path.read_bytes()
    for size in np.linspace(1, len(data) - 1, 25).astype(int):
        path.write_bytes(data[:size])
        refusal(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1), start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", bytes(8) + b"{"]))
def test_arbitrary_bytes_are_refused_as_input(data: bytes, start: bytes, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(start + data)
    with pytest.raises(InputError):
        load_checkpoint(tmp_path / "bytes")


def test_equal_weights_match(weights: OrderedDict[str, Tensor]) -> None:
    match_weights(weights, {key: value.to(torch.float32) for key, value in weights.items()})


def test_differences_are_listed_by_kind(weights: OrderedDict[str, Tensor]) -> None:
    actual = dict(weights) | {"extra.weight": torch.ones(2), "head.weight": torch.ones(3, 5)}
    del actual["head.bias"]
    with pytest.raises(InputError) as caught:
        match_weights(weights, actual)
    assert str(caught.value).splitlines()[:4] == [
        "the checkpoint does not fit the model: 1 missing, 1 unexpected, 1 mis-shaped entries",
        "  missing     head.bias  [3]",
        "  unexpected  extra.weight  [2]",
        "  mis-shaped  head.weight  [3, 5] in the checkpoint, [3, 4] in the model",
    ]


def test_integers_are_no_weights(weights: OrderedDict[str, Tensor]) -> None:
    """Counters may be."""
    actual = dict(weights) | {"head.weight": torch.ones(3, 4, dtype=torch.int8)}
    with pytest.raises(
        InputError, match=r"mis-shaped  head\.weight  torch\.int8 in the checkpoint, torch\.float32 in the"
    ):
        match_weights(weights, actual)


def test_many_differences_are_grouped_by_part(golden: Path) -> None:
    """A checkpoint of the first training stage has no motion, occupancy and planning weights."""
    stage1, stage2 = (
        {entry["key"]: torch.empty(entry["shape"], device="meta") for entry in json.loads((golden / name).read_text())}
        for name in ("state_dict_manifest_stage1.json", "state_dict_manifest.json")
    )
    match_weights(stage2, stage2)
    with pytest.raises(InputError) as caught:
        match_weights(stage2, stage1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the checkpoint does not fit the model: 715 missing, 0 unexpected, 0 mis-shaped entries"
    groups = {line.split()[1]: int(line.split()[2]) for line in lines[1:-1]}
    assert groups == {"occ_head.*": 380, "motion_head.*": 259, "planning_head.*": 76}


def test_the_table_of_differences_stays_short() -> None:
    expected = {f"part{i}.weight": torch.ones(1) for i in range(1000)}
    with pytest.raises(InputError) as caught:
        match_weights(expected, {})
    lines = str(caught.value).splitlines()
    assert len(lines) < 20
    assert lines[-2].endswith("… and 988 more")
