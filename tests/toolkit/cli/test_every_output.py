"""No command writes over what it reads: all commands, all their outputs, all their inputs.

The commands are asked for their parameters. A new one is here by itself, and fails until it claims its outputs.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import onnx
import pytest
import torch
import typer
from typer.models import ArgumentInfo

from tests.graph.rewriting import text_model
from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.cli.application import make_app
from toolkit.cli.main import run
from toolkit.config.model import ModelConfig
from toolkit.data.frame_folder import write_frame
from toolkit.demo.pseudo_weights import pseudo_motion_anchors
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.thorough

OUTPUTS = {"output", "json_file", "losses", "video", "rerun", "keep_model", "timing_cache"}
"""Parameters that name what is written. Every other path is read."""
ADDRESSES = {"frames", "data", "calibration", "drive"}
"""Parameters that name what is read, though not as a plain path."""
ELSE = {"build": ("--target", "tensorrt"), "new-op": ("an_op",), "new-pass": ("a-pass",)}
"""What a command needs besides paths."""
SUFFIXES = {("build", "output"): ".engine", ("visualize", "video"): ".gif"}
"""By which formats are chosen before anything else happens."""
PLUGIN = "plugin"
"""The file of --plugin, which every command reads."""
NAMES = {"config": "in.toml", "motion_anchors": "in.npy", PLUGIN: "in.py", "model": "in.onnx", "rewritten": "in.onnx"}
FOLDERS = {"bundle", "frames", "dataroot", "results", "data", "against", "calibration", "drive"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a command; `option` is how it is given, None for an argument."""

    name: str
    option: str | None
    path: bool
    needed: bool


@cache
def commands() -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every command, by its words."""
    found: dict[str, tuple[Parameter, ...]] = {}

    def add(app: typer.Typer, words: str) -> None:
        for command in app.registered_commands:
            assert command.callback is not None
            found[f"{words}{command.name}"] = tuple(parameters(command.callback))
        for group in app.registered_groups:
            assert group.typer_instance is not None
            add(group.typer_instance, f"{words}{group.name} ")

    add(make_app(PluginManager.load()), "")
    return found


def parameters(callback: Callable[..., object]) -> Iterator[Parameter]:
    hints = get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        if get_origin(hints[name]) is Annotated:
            kind, info = get_args(hints[name])
            option, argument = None, isinstance(info, ArgumentInfo)
            if not argument:
                names = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
                option = next(iter(names), "--" + name.replace("_", "-"))
            yield Parameter(
                name,
                option,
                path=name in ADDRESSES or Path in (kind, *get_args(kind)) or list[Path] in get_args(kind),
                needed=argument or parameter.default is inspect.Parameter.empty,
            )


def outputs_and_inputs() -> list[tuple[str, str, str]]:
    """Each output of each command with each input of the same command."""
    triples = []
    for words, given in commands().items():
        paths = [parameter.name for parameter in given if parameter.path]
        inputs = [*(name for name in paths if name not in OUTPUTS), PLUGIN]
        triples += [(words, output, read) for output in paths if output in OUTPUTS for read in inputs]
    return triples


def make_input(name: str, folder: Path) -> Path:
    """What a command can read as the parameter, as far as it does before its outputs are looked at."""
    folder.mkdir(exist_ok=True)
    path = folder / NAMES.get(name, "in")
    if name in FOLDERS:
        path.mkdir()
        (path / ".uniad-toolkit").touch()
        (path / "data").write_text("data")
    elif name == "motion_anchors":
        np.save(path, pseudo_motion_anchors(ModelConfig()))
    elif path.suffix == ".onnx" or name == "source":
        onnx.save(text_model("m (float[1] x) => (float[1] y) { y = Relu (x) }"), path)
    else:
        path.write_text("# nothing")
    return path


def arguments(words: str, given: dict[str, Path], folder: Path) -> Iterator[str]:
    """The paths in `given`, others that a command cannot do without, and --force if it has that."""
    for parameter in commands()[words]:
        if parameter.name == "force":
            yield "--force"
        if parameter.name not in given and not (parameter.path and parameter.needed):
            continue
        if parameter.option is not None:
            yield parameter.option
        other = folder / f"other_{parameter.name}"
        yield str(
            given.get(parameter.name) or (other if parameter.name in OUTPUTS else make_input(parameter.name, other))
        )


def content(path: Path) -> list[tuple[str, bytes]]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(str(file), file.read_bytes()) for file in files]


@pytest.mark.parametrize(("words", "output", "read"), outputs_and_inputs())
def test_output_is_no_input(
    words: str, output: str, read: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a link to the input here; with --force, where a command has it."""
    source = make_input(read, tmp_path)
    before = content(source)
    link = tmp_path / f"out{SUFFIXES.get((words, output), '')}"
    link.symlink_to(source.name)
    given = {output: link} | ({} if read == PLUGIN else {read: source})
    plugin = ["--plugin", str(source)] if read == PLUGIN else []
    line = [*words.split(), *ELSE.get(words, ()), *arguments(words, given, tmp_path), *plugin]
    assert run(line) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{link} is {source}, an input of this command; choose another output" in said
    assert content(source) == before
    assert link.is_symlink()


@pytest.mark.parametrize("words", ["rewrite {model} -o {out}", "inspect {model} --json {data}"])
def test_weights_beside_a_model_are_inputs(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a model nor its weights replace them."""
    data = tmp_path / "out.onnx.data"
    model = text_model("m (float[2] x) => (float[2] y) { y = Add (x, w) }", w=np.ones(2, np.float32))
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location=data.name, size_threshold=0)
    before = content(data)
    line = words.format(model=tmp_path / "m.onnx", out=tmp_path / "out.onnx", data=data)
    assert run(line.split()) == 2
    assert f"{data} is an input of this command; choose another output" in " ".join(capsys.readouterr().err.split())
    assert content(data) == before


@pytest.mark.parametrize("words", ["inspect {index} --json {part}", "inspect {other} --against {index} --json {part}"])
def test_parts_of_a_checkpoint_are_inputs(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the command line names their index alone."""
    part, index, other = tmp_path / "part.pth", tmp_path / "model.pth.index.json", tmp_path / "other.pth"
    torch.save({"a": torch.ones(2)}, part)
    shutil.copy(part, other)
    index.write_text('{"weight_map": {"a": "part.pth"}}')
    before = content(part)
    assert run(words.format(index=index, part=part, other=other).split()) == 2
    assert f"{part} is an input of this command; choose another output" in " ".join(capsys.readouterr().err.split())
    assert content(part) == before


@pytest.mark.parametrize("command", ["verify", "benchmark"])
def test_pictures_outside_their_frames_are_inputs(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A frame may refer to them anywhere."""
    bundle, frames = write_toy_bundle(tmp_path / "bundle"), tmp_path / "frames"
    for number in range(2):
        frame = write_frame(toy_frame(number, "monday"), frames)
        frame.write_text(frame.read_text().replace("images/", "../pictures/"))
    pictures = (frames / "images").rename(tmp_path / "pictures")
    before, picture = content(pictures), next(pictures.iterdir())
    assert run([command, str(bundle.path), "--frames", str(frames), "--json", str(picture)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{picture.name}, an input of this command; choose another output" in said
    assert content(pictures) == before


def test_commands_without_outputs() -> None:
    """All others are above; `warm` writes into the user's cache alone."""
    assert commands().keys() - {words for words, _, _ in outputs_and_inputs()} == {"doctor", "plugins", "warm"}
