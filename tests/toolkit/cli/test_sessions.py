"""Choosing a session and its precision on the command line: what is refused, and what is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.toolkit.toy_bundle import write_toy_bundle, write_toy_frames
from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.cli.sessions import used_precision
from toolkit.doctor.check import Status
from toolkit.doctor.gpu_sessions import check_gpu_sessions
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.torch import TorchSession
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.run_record import RunRecord

pytestmark = pytest.mark.thorough

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle`, that of a network at toy size, and `frames`."""
    folder = tmp_path_factory.mktemp("sessions")
    write_toy_bundle(folder / "bundle")
    write_toy_frames(folder / "frames")
    return folder


Command = Callable[..., int]


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> Command:
    """Runs a command that takes a session over the toy bundle; its exit status."""
    bundle, frames, output = (str(path) for path in (folder / "bundle", folder / "frames", tmp_path / "output"))
    arguments = {
        "run": [bundle, frames, "-o", output],
        "visualize": [bundle, "--frames", frames, "-o", output],
        "benchmark": [bundle, "--frames", "1", "--json", output],
        "verify": [bundle, "--length", "1", "--json", output],
    }

    def invoke(name: str, *options: str) -> int:
        return run([name, *arguments[name], *options])

    return invoke


COMMANDS = ["run", "visualize", "benchmark"]


class FakeCuda(TorchSession):
    """The cuda session as far as commands see it, on the CPU."""

    name = "cuda"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Precision]:
    """The precisions that cuda sessions were opened with; they run on the CPU here."""
    asked: list[Precision] = []

    def of_bundle(bundle: Bundle, plugins: PluginManager, *, precision: Precision, **_: object) -> TorchSession:
        asked.append(precision)
        return FakeCuda.of_bundle(bundle, plugins)

    monkeypatch.setattr(CudaGraphSession, "of_bundle", of_bundle)
    return asked


def one_line(captured: str) -> str:
    """What was printed, which must be an error on a single line."""
    assert captured.startswith("error: ")
    assert captured.count("\n") == 1
    return captured


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("session", ["onnxruntime", "torch", "onnxruntime-cuda"])
def test_only_the_cuda_session_has_a_choice(
    name: str, session: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(name, "--session", session, "--precision", "fp16") == 2
    expected = f"--precision fp16 is of no use with --session {session}, which computes in FP32; use --session cuda"
    assert expected in one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_has_its_own_precision(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("run", "--session", "tensorrt", "--precision", "tf32") == 2
    assert "whose engine has the precision it was built with" in one_line(capsys.readouterr().err)


def test_verify_needs_a_session_with_a_choice(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", "--sessions", "torch,onnxruntime", "--precision", "bf16") == 2
    assert "of no use with --session torch and onnxruntime" in one_line(capsys.readouterr().err)


def test_an_unknown_precision(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("run", "--session", "cuda", "--precision", "int8") == 2
    assert "'int8' is not one of" in one_line(capsys.readouterr().err)


@without_gpu
@pytest.mark.parametrize("options", [(), ("--precision", "fp16")])
@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_gpu(
    name: str, options: tuple[str, ...], command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(name, "--session", "cuda", *options) == 2
    assert "needs a CUDA GPU" in one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@without_gpu
def test_workers_without_a_gpu(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error is a worker's; it takes seconds, for workers import torch."""
    assert command("run", "--session", "cuda", "--workers", "2") == 2
    assert "needs a CUDA GPU" in one_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("options", "precision"), [((), "fp32"), (("--precision", "fp16"), "fp16")])
def test_a_run_records_session_and_precision(
    options: tuple[str, ...], precision: str, command: Command, asked: list[Precision], tmp_path: Path
) -> None:
    assert command("run", "--session", "cuda", "--no-pictures", *options) == 0
    assert asked == [precision]
    record = RunRecord.read(tmp_path / "output")
    assert (record.session, record.precision) == ("cuda", precision)


def test_a_benchmark_records_session_and_precision(
    command: Command, asked: list[Precision], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("benchmark", "--session", "cuda", "--precision", "bf16") == 0
    assert asked == ["bf16"]
    assert "cuda, bf16: milliseconds a frame" in capsys.readouterr().out
    values = json.loads((tmp_path / "output").read_text())
    assert (values["session"], values["precision"]) == ("cuda", "bf16")


def test_verify_names_the_precision(
    command: Command, asked: list[Precision], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the cuda session's alone."""
    assert command("verify", "--sessions", "torch,cuda", "--precision", "tf32") == 0
    assert asked == ["tf32"]
    [report] = json.loads((tmp_path / "output").read_text())
    assert (report["reference"], report["candidate"]) == ("torch", "cuda tf32")
    assert "cuda tf32 agrees with torch" in capsys.readouterr().out


def test_the_precision_of_an_engine_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = (SimpleNamespace(precision="fp16"), None)
    monkeypatch.setattr("toolkit.engines.tensorrt.registration.choose_engine", lambda *_: chosen)
    bundle: Any = None
    assert used_precision(bundle, "tensorrt", Precision.FP32, PluginManager.load()) == "fp16"
    assert used_precision(bundle, "torch", Precision.FP32, PluginManager.load()) == "fp32"


@without_gpu
def test_doctor_tells_what_is_missing() -> None:
    """For one session a GPU, for the other a package; neither is needed for a conversion."""
    cuda, onnxruntime = check_gpu_sessions()
    assert (cuda.status, onnxruntime.status) == (Status.NOTE, Status.NOTE)
    assert "needs a CUDA GPU" in cuda.found
    assert "put onnxruntime-gpu in its place" in onnxruntime.found
