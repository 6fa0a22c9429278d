"""Sessions and frame sources from plugins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toolkit.toy_bundle import write_toy_bundle, write_toy_frames
from toolkit.cli.main import run
from toolkit.runtime.run_record import RunRecord

pytestmark = pytest.mark.thorough

PLUGIN = """
from toolkit.data.frame_folder import read_frame_folder
from toolkit.data.source_kind import FrameSourceKind
from toolkit.precision import Precision
from toolkit.engines.session_kind import SessionKind
from toolkit.engines.torch import TorchSession
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl

class LoudSession(TorchSession):
    name = "loud"

def open_loud(bundle, plugins, options):
    print(f"opened in {options.precision.value}")
    return LoudSession.of_bundle(bundle, plugins)

@hookimpl
def uniad_sessions():
    return (SessionKind("loud", open_loud, precisions=(Precision.FP32, Precision.BF16)),)

def open_tail(path, options, image, warn):
    frames = list(read_frame_folder(path, image.cameras))
    count = int(options.get("count", 1))
    if count > len(frames):
        raise InputError(f"{path} holds {len(frames)} frames; ask for no more")
    return frames[-count:]

@hookimpl
def uniad_frame_sources():
    return (FrameSourceKind("tail", "tail:FOLDER?count=…", open_tail, options=("count",)),)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plugin with a session and a frame source, a toy bundle and its frames."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "loud.py").write_text(PLUGIN)
    write_toy_bundle(folder / "bundle")
    write_toy_frames(folder / "frames")
    return folder


def run_toy(folder: Path, source: str, output: Path, *options: str) -> int:
    arguments = ["run", str(folder / "bundle"), source, "-o", str(output), "--no-pictures", *options]
    return run([*arguments, "--plugin", str(folder / "loud.py")])


def test_a_session_of_a_plugin_runs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is recorded under its name, and gets what the command line says."""
    assert run_toy(folder, str(folder / "frames"), tmp_path / "out", "--session", "loud", "--precision", "bf16") == 0
    assert "opened in bf16" in capsys.readouterr().out
    record = RunRecord.read(tmp_path / "out")
    assert (record.session, record.precision) == ("loud", "bf16")


def test_its_precisions_are_those_that_it_states(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_toy(folder, str(folder / "frames"), tmp_path / "out", "--session", "loud", "--precision", "fp16") == 2
    assert "--precision fp16 is of no use with --session loud" in capsys.readouterr().err


def test_a_frame_source_of_a_plugin_is_read(folder: Path, tmp_path: Path) -> None:
    assert run_toy(folder, f"tail:{folder / 'frames'}?count=2", tmp_path / "out", "--session", "torch") == 0
    written = sorted(path.stem for path in (tmp_path / "out").glob("*.json"))
    assert written == ["frame4", "frame5"]
    assert json.loads((tmp_path / "out/frame4.json").read_text())["scene"] == "scene2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?count=9", "holds 6 frames; ask for no more"),
        ("?length=2", "option 'length' is unknown; known here are count"),
    ],
)
def test_its_address_is_checked(
    options: str, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_toy(folder, f"tail:{folder / 'frames'}{options}", tmp_path / "out", "--session", "torch") == 2
    assert message in capsys.readouterr().err


def test_help_and_plugins_list_both(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = str(folder / "loud.py")
    assert run(["run", "--help", "--plugin", plugin]) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "onnxruntime, onnxruntime-cuda, torch, cuda, tensorrt, loud" in printed
    assert "tail:FOLDER?count=…" in printed
    assert run(["plugins", "--plugin", plugin]) == 0
    printed = capsys.readouterr().out
    assert f"  {plugin}: session loud, frame source tail" in printed
    assert "  toolkit.engines.plugin: session onnxruntime, session onnxruntime-cuda" in printed


def test_an_unknown_session(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_toy(folder, str(folder / "frames"), tmp_path / "out", "--session", "quiet") == 2
    assert "--session names 'quiet'; known are onnxruntime, onnxruntime-cuda, torch" in capsys.readouterr().err
