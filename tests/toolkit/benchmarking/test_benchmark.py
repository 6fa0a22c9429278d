"""Measuring a bundle: every stage is there, parts fit into their stages, and what was measured can be repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from custom_ops.inverse.op import INVERSE
from tests.toolkit.toy_bundle import CONFIG, write_toy_bundle
from toolkit.benchmarking.environment import cpu_model
from toolkit.benchmarking.measure import Timing, benchmark
from toolkit.benchmarking.probe_pictures import write_probe_frames
from toolkit.benchmarking.submodules import seconds_by_submodule
from toolkit.benchmarking.timed import gpu_wait
from toolkit.bundle import FUNCTIONAL_ONNX, Bundle
from toolkit.cli.main import run
from toolkit.conversion.export import export_submodule, merge
from toolkit.data.probe import probe_frames
from toolkit.data.sequence import sequence_inputs
from toolkit.data.stage_clock import StageClock
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.onnxruntime_profile import OTHER, submodule_seconds
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.wiring import NetworkGraph

STAGES = ["load and decode", "preprocess", "network", "post-process", "write", "draw"]
SUBMODULES = ["image_encoder", "bev_encoder", "tracking", "map_segmentation", "motion", "occupancy", "planning"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toolkit's network at toy size."""
    return write_toy_bundle(tmp_path_factory.mktemp("benchmark") / "bundle")


def test_stages_make_the_frame_and_parts_their_stage(toy: Bundle, tmp_path: Path) -> None:
    plugins, ticks = PluginManager.load(), list[int]()
    session, frames = TorchSession.of_bundle(toy, plugins), write_probe_frames(CONFIG, 3, tmp_path)
    result = benchmark(toy, session, plugins.submodules(), frames, on_frame=lambda: ticks.append(1))
    timings = {timing.name: timing for timing in result.timings}
    parts = {whole: [t for t in result.timings if t.part_of == whole] for whole in (None, *timings)}
    assert [timing.name for timing in parts[None]] == [*STAGES, "whole frame"]
    assert [timing.name for timing in parts["load and decode"]] == ["read files", "decode"]
    assert [timing.name for timing in parts["network"]] == ["upload", "model", "download", "check state"]
    assert [timing.name for timing in parts["model"]] == SUBMODULES
    assert all(min(timing.seconds) > 0 and len(timing.seconds) == 2 for timing in result.timings)
    for whole in ("load and decode", "network"):
        for frame, seconds in enumerate(timings[whole].seconds):
            assert sum(part.seconds[frame] for part in parts[whole]) <= seconds + 1e-9
    whole_frames = timings["whole frame"].seconds
    assert whole_frames == pytest.approx([sum(timings[s].seconds[i] for s in STAGES) for i in range(2)])
    assert result.frames == 2
    assert result.frames_per_second == pytest.approx(2 / sum(whole_frames), rel=0.2)
    assert len(ticks) == 6  # every frame twice, the first one included
    assert result.memory.resident > 2**27


def test_percentiles_are_those_of_the_frames() -> None:
    values = Timing("network", None, tuple(range(101))).milliseconds
    assert values == {"p50": 50_000, "p90": 90_000, "p99": 99_000, "mean": 50_000}


def test_command_prints_a_table_and_writes_all_figures(
    toy: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    assert run(["benchmark", str(toy.path), "--session", "torch", "--frames", "1", "--json", str(output)]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*STAGES, *SUBMODULES, "frames per second", "peak memory", "CPU"))
    values = json.loads(output.read_text())
    assert (values["session"], values["frames"], values["warm_up_frames"]) == ("torch", 1, 1)
    assert values["bundle"] == toy.identity
    assert values["command"] in printed.replace("\n", "")
    assert values["peak_bytes"]["resident"] > 0
    assert {"date", "CPU", "cores", "threads", "Python", "toolkit", "torch"} <= values["environment"].keys()
    (network,) = (row for row in values["milliseconds"] if row["stage"] == "network")
    assert network["part_of"] is None
    assert 0 < network["p50"] == network["p99"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "0"], "--frames 0 must lie between 1 and 99999"),
        (["--frames", "123456"], "--frames 123456 must lie between 1 and 99999"),
        (["--frames", "4", "--length", "2"], "--length chooses from the frames of an address; give --frames 2 alone"),
        (["--frames", "nowhere"], "nowhere: is not a folder"),
    ],
)
def test_frames_that_cannot_be(
    toy: Bundle, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["benchmark", str(toy.path), "--session", "torch", *options]) == 2
    assert message in capsys.readouterr().err


def test_made_up_pictures_become_the_probe_frames_again(tmp_path: Path) -> None:
    """About, since JPEG and two changes of size lie between; what is no picture is fed as it is."""
    frames = write_probe_frames(CONFIG, 2, tmp_path)
    for expected, (_, inputs) in zip(probe_frames(CONFIG, 2, 2), sequence_inputs(frames, CONFIG), strict=True):
        assert np.corrcoef(inputs.pop("image").ravel(), expected.pop("image").ravel())[0, 1] > 0.9
        for name, array in inputs.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.slow
def test_onnxruntime_tells_submodules_apart(
    bundle: Bundle, graph: NetworkGraph, network: Network, drive: list[dict[str, np.ndarray]]
) -> None:
    """Also the nodes of a custom op's function, which have no names, but not one that the runtime adds."""
    pieces = {s.name: export_submodule(graph, s, network.parts[s.name], (INVERSE,)) for s in graph.submodules}
    onnx.save(merge(graph, pieces, (INVERSE,), {}), bundle.path / FUNCTIONAL_ONNX)
    bundle = replace(bundle, files={"functional": FUNCTIONAL_ONNX})

    def run_drive(session: Session) -> None:
        runner = TemporalRunner(bundle, session)
        for frame in drive:
            runner.step(frame)

    frames = seconds_by_submodule(bundle, OnnxRuntimeSession(bundle), run_drive)
    assert len(frames) == len(drive)
    for seconds in frames:
        assert seconds.keys() - {OTHER} == {"odometry", "planner"}
        assert seconds["planner"] > 0
    # In the fastest frame, for any node takes long when the machine is busy.
    assert min(seconds["odometry"] for seconds in frames) > min(seconds.get(OTHER, 0) for seconds in frames)


def test_profile_is_read_run_by_run(tmp_path: Path) -> None:
    """Nodes that the runtime has fused keep their names; what it adds of its own is shown apart."""
    events = [
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 50},
        {"cat": "Node", "name": "encoder/conv_kernel_time", "ts": 110, "dur": 10},
        {"cat": "Node", "name": "fused encoder/gelu_kernel_time", "ts": 125, "dur": 5},
        {"cat": "Node", "name": "ReorderOutput_kernel_time", "ts": 130, "dur": 1},
        {"cat": "Session", "name": "model_run", "ts": 200, "dur": 50},
        {"cat": "Node", "name": "planner/matmul_kernel_time", "ts": 210, "dur": 20},
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 90},
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    first, second = submodule_seconds(path, ["encoder", "planner"])
    assert first == pytest.approx({"encoder": 15e-6, "planner": 0, OTHER: 1e-6})
    assert second == pytest.approx({"encoder": 0, "planner": 20e-6})


def test_skipped_time_belongs_to_no_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 5.0, 7.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = StageClock[str]()
    clock.skip()
    clock.lap("model")
    assert clock.take() == {"model": 2.0}


def test_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append(True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu_wait()()
    assert waits == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu_wait()()
    assert waits == [True]


def test_processor_has_a_name(tmp_path: Path) -> None:
    """Of the first of its threads; the architecture where Linux does not tell."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU\nprocessor\t: 1\nmodel name\t: Other\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU"
    assert cpu_model(tmp_path / "nowhere")
