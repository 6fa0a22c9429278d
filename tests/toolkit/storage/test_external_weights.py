"""Weights beside a model are read from its folder, through links too, and only as many bytes as they have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto

from toolkit.errors import InputError
from toolkit.storage import external_weights
from toolkit.storage.external_weights import external_names, is_there, read_external_weights, require_weights
from toolkit.storage.onnx_file import model_files, parse_model

WEIGHT = np.arange(600, dtype=np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model in a folder of its own, whose only weight lies in ``w.bin``."""
    (tmp_path / "folder").mkdir()
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [600]) for name in "xy"]
    weights = [onnx.numpy_helper.from_array(WEIGHT, "w")]
    nodes = [onnx.helper.make_node("Add", ["x", "w"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    path = tmp_path / "folder" / "model.onnx"
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def moved_out(model: Path) -> Path:
    """The file of weights in another folder, where a cache might have it."""
    (model.parents[1] / "cache").mkdir()
    return (model.parent / "w.bin").rename(model.parents[1] / "cache" / "5f0c")


def as_they_are(model: Path) -> None:
    """Weights as onnx writes them."""


def behind_a_link(model: Path) -> None:
    (model.parent / "w.bin").rename(model.parent / "5f0c")
    (model.parent / "w.bin").symlink_to("5f0c")


def behind_links_as_the_model(model: Path) -> None:
    """As the cache of Hugging Face has them."""
    (model.parent / "w.bin").symlink_to(moved_out(model))
    model.rename(model.parents[1] / "cache" / "81ac")
    model.symlink_to("../cache/81ac")


def in_a_folder_behind_a_link(model: Path) -> None:
    model.parent.rename(model.parents[1] / "elsewhere")
    model.parent.symlink_to("elsewhere")


def with_a_second_name(model: Path) -> None:
    os.link(moved_out(model), model.parent / "w.bin")


def in_an_inner_folder(model: Path) -> None:
    (model.parent / "weights").mkdir()
    (model.parent / "w.bin").rename(model.parent / "weights/w.bin")
    state(model, location="weights/w.bin")


def without_a_length(model: Path) -> None:
    state(model, length=None)


PLACES = [
    as_they_are,
    behind_a_link,
    behind_links_as_the_model,
    in_a_folder_behind_a_link,
    with_a_second_name,
    in_an_inner_folder,
    without_a_length,
]


def state(model: Path, **entries: str | None) -> None:
    """Let the weight's reference to its file say something else; None leaves an entry out."""
    proto = parse_model(model)
    [weight] = proto.graph.initializer
    kept = {entry.key: entry.value for entry in weight.external_data} | entries
    del weight.external_data[:]
    for key, value in kept.items():
        if value is not None:
            weight.external_data.add(key=key, value=value)
    model.write_bytes(proto.SerializeToString())


@pytest.mark.parametrize("place", PLACES)
def test_weights_are_read_through_links(model: Path, place: Callable[[Path], None]) -> None:
    place(model)
    proto = parse_model(model)
    read_external_weights(proto, model)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(proto.graph.initializer[0]), WEIGHT)
    assert not external_names(proto)


@pytest.mark.parametrize("place", PLACES)
def test_where_we_read_them_onnx_runtime_does(model: Path, place: Callable[[Path], None]) -> None:
    place(model)
    require_weights(parse_model(model), model)
    session = onnxruntime.InferenceSession(model)
    np.testing.assert_array_equal(session.run(None, {"x": np.ones(600, np.float32)})[0], WEIGHT + 1)


def missing(model: Path) -> None:
    (model.parent / "w.bin").unlink()


def cut_off(model: Path) -> None:
    os.truncate(model.parent / "w.bin", 1000)


def behind_a_pipe(model: Path) -> None:
    missing(model)
    os.mkfifo(model.parent / "w.bin")


def links_in_a_circle(model: Path) -> None:
    missing(model)
    (model.parent / "w.bin").symlink_to("w.bin")


def leading_out(model: Path) -> None:
    (model.parent / "w.bin").symlink_to(moved_out(model))


def leading_out_by_its_folder(model: Path) -> None:
    moved_out(model).rename(model.parents[1] / "cache" / "w.bin")
    (model.parent / "weights").symlink_to(model.parents[1] / "cache")
    state(model, location="weights/w.bin")


def stating(**entries: str | None) -> Callable[[Path], None]:
    return lambda model: state(model, **entries)


BAD = {
    "missing": (missing, "'w.bin': No such file or directory"),
    "cut off": (cut_off, "weight 'w' has bytes 0 to 2400 of 'w.bin', and the file has 1000 bytes"),
    "pipe": (behind_a_pipe, "'w.bin': is not a regular file"),
    "out of the folder": (leading_out, "'w.bin' is a link to {folder}/cache/5f0c, out of the model's folder"),
    "by its folder": (leading_out_by_its_folder, "'weights/w.bin' is a link to {folder}/cache/w.bin, out of"),
    "circle": (links_in_a_circle, "'w.bin': Too many levels of symbolic links"),
    "too short": (stating(length="4"), "weight 'w' takes 4 bytes of 'w.bin' and has 2400"),
    "too long": (stating(length="9999999999999"), "weight 'w' takes 9999999999999 bytes of 'w.bin' and has 2400"),
    "begins late": (stating(offset="1"), "weight 'w' has bytes 1 to 2401 of 'w.bin', and the file has 2400 bytes"),
    "begins before": (stating(offset="-1"), "weight 'w' has bytes -1 to 2399"),
    "rest is too short": (stating(offset="4", length=None), "weight 'w' takes 2396 bytes"),
    "no number": (stating(offset="one"), "invalid literal"),
    "many digits": (stating(offset="9" * 5000), "Exceeds the limit"),
    "above": (stating(location="../w.bin"), "'../w.bin' is no file in the model's folder"),
    "above, below": (stating(location="a/../../w.bin"), "'a/../../w.bin' is no file in the model's folder"),
    "absolute": (stating(location="/etc/passwd"), "'/etc/passwd' is no file in the model's folder"),
    "empty": (stating(location=""), "'' is no file in the model's folder"),
    "not stated": (stating(location=None), "'' is no file in the model's folder"),
    "zero": (stating(location="w\0bin"), "is no file in the model's folder"),
    "folder": (stating(location="."), "'.': Is a directory"),
    "long": (stating(location="x" * 5000), "File name too long"),
}


@pytest.mark.parametrize(("spoil", "reason"), BAD.values(), ids=BAD)
def test_what_cannot_be_weights_is_refused_in_one_line(
    model: Path, tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(model)
    with pytest.raises(InputError) as refusal:
        read_external_weights(parse_model(model), model)
    message = str(refusal.value)
    assert message.startswith(f"external weights of ONNX model {model} cannot be read: ")
    assert message.endswith("; put the file of weights that was written with the model beside it")
    assert reason.replace("{folder}", str(tmp_path)) in message
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("spoil", "there"),
    [(as_they_are, True), (behind_a_link, True), *((BAD[name][0], False) for name in ("missing", "long", "above"))],
)
def test_files_that_are_not_there_are_named_as_such(model: Path, spoil: Callable[[Path], None], there: bool) -> None:
    spoil(model)
    [name] = external_names(parse_model(model))
    assert is_there(model, name) == there
    assert model_files(model) == [model, model.parent / "w.bin"][: 1 + there]


def test_weights_cannot_share_their_bytes_without_end(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_weights, "SPARE", 2400)
    for copies, fits in ((2, True), (3, False)):
        proto = sharing(model, copies)
        if fits:
            read_external_weights(proto, model)
        else:
            with pytest.raises(InputError, match="weights take 7200 bytes, far more than their files have"):
                read_external_weights(proto, model)


def sharing(model: Path, copies: int) -> ModelProto:
    """A model with several weights of the same bytes."""
    proto = parse_model(model)
    [weight] = proto.graph.initializer
    proto.graph.initializer.extend([weight] * (copies - 1))
    return proto
