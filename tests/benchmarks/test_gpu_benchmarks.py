"""The scripts behind the GPU's figures, as far as they go without a GPU: what they count, compare and write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    gpu_cases,
    gpu_emulation,
    gpu_frame,
    gpu_measurement,
    gpu_precision,
    gpu_scenes,
    gpu_submodules,
    gpu_transfers,
)
from benchmarks.gpu_cases import Case
from benchmarks.gpu_measurement import Measurement, measure
from benchmarks.gpu_network import bundle_of
from benchmarks.gpu_precision import Pair, compare_precisions, compare_sessions, deviations, faults_of, summary
from benchmarks.gpu_work import GpuWork, covered
from tests.toolkit.toy_bundle import CONFIG
from toolkit.benchmarking.timed import Part
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.verification.metrics import measure as measure_errors
from toolkit.verification.report import Report
from toolkit.wiring import join

pytestmark = pytest.mark.thorough

WORK = GpuWork(kernels=300, copies=2, busy_milliseconds=4.0)


@pytest.fixture(scope="module")
def network() -> Network:
    """The toolkit's at toy size, with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(join(PluginManager.load().submodules(), CONFIG))


def printed(*tables: Table) -> str:
    """As on a wide terminal, with single spaces."""
    output = StringIO()
    Console(width=300, file=output).print(*tables)
    return " ".join(output.getvalue().split())


class LouderSession(TorchSession):
    """A session whose BEV is off by some share."""

    share = 0.01

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = super().run(inputs)
        return outputs | {"bev": outputs["bev"] * (1 + self.share)}


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(0, 2), (5, 6)], 3), ([(0, 4), (1, 2), (3, 7)], 7), ([(5, 6), (0, 2), (1, 5)], 6)],
    ids=["nothing", "apart", "overlapping", "touching"],
)
def test_work_on_several_streams_counts_once(intervals: list[tuple[float, float]], length: float) -> None:
    assert covered(intervals) == length


@pytest.mark.slow
def test_a_session_is_measured(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames to warm up are run and not counted; the network's objects are those of the frames that are."""
    profiled: list[bool] = []

    class Profiled(TorchSession):
        def __init__(self, session: TorchSession) -> None:
            super().__init__(network)
            self.works = [WORK]
            profiled.append(True)

    monkeypatch.setattr(gpu_measurement, "ProfiledSession", Profiled)
    gpu = SimpleNamespace(
        empty_cache=lambda: None,
        reset_peak_memory_stats=lambda: None,
        synchronize=lambda: None,
        mem_get_info=lambda: (60, 80),
        max_memory_reserved=lambda: 10,
    )
    monkeypatch.setattr(gpu_measurement, "torch", SimpleNamespace(cuda=gpu))
    drive = probe_frames(CONFIG, 3, scene_change=2)
    found = measure(lambda: TorchSession(network), bundle_of(network), drive, 4, 2, Precision.FP32)
    assert profiled == [True]
    assert (found.session, found.work, found.used_bytes) == ("eager", WORK, 20)
    assert len(found.objects) == len(found.milliseconds[Part.MODEL]) == 4
    assert all(found.objects)
    assert found.milliseconds.keys() == {Part.UPLOAD, Part.MODEL, Part.CHECK, Part.DOWNLOAD}
    assert found.first_frame_seconds > 0
    stages = {name: times[0] for name, times in found.stages.items()}
    assert found.transfers["p50"] < stages["preprocess"] + stages["network"]


def measurement(session: str, precision: Precision, milliseconds: float, objects: list[set[int]]) -> Measurement:
    """What a session might have measured."""
    times = tuple(milliseconds + 0.01 * frame for frame in range(len(objects)))
    return Measurement(
        session=session,
        precision=precision,
        open_seconds=1,
        first_frame_seconds=30,
        milliseconds=dict.fromkeys((Part.UPLOAD, Part.MODEL, Part.CHECK, Part.DOWNLOAD), times),
        work=WORK,
        peak_reserved_bytes=2**30,
        used_bytes=2**31,
        objects=tuple(map(frozenset, objects)),
        stages={"preprocess": (0.5, 0.5), "network": (6.0, 6.2), "model": (5.0, 5.0)} if session == "cuda" else {},
    )


EAGER = measurement("eager", Precision.FP32, 100, [{1, 2}, {2, 3, 4}])
CUDA = measurement("cuda", Precision.FP16, 4, [{1, 2}, {2, 3}, {3}])


def test_objects_that_appear_and_vanish_are_counted() -> None:
    assert EAGER.changes == (2, 1)
    assert gpu_frame.summary(CUDA, EAGER) == (
        "cuda fp16: p50 4.01 ms in 3 frames, 1 to 2 objects, 1 appeared, 2 vanished; the eager network's in 1 of 2 "
        "frames"
    )


def test_the_tables_have_goals_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    text = printed(gpu_frame.time_table([EAGER, CUDA]), gpu_frame.work_table([EAGER, CUDA]))
    assert "model, milliseconds: Some GPU" in text
    assert "cuda fp16 │ 4.01 │ 4.02 │ 4.02 │ ≤ 4.3 yes │ 1.002 │ ≤ 1.1 yes │ 24.9x │ 43.1x" in text
    assert "cuda fp16 │ 300 │ 2 │ 4.00 │ 1.60 │ 1.70 │ ≤ 1.5 no │ 1.0 │ 30.0 │ 2.00" in text
    assert "eager fp32 │ 100.00 │ 100.01 │ 100.01 │ │ 1.000 │ │ 1.0x │ 1.7x" in text


def test_figures_are_json() -> None:
    values = json.loads(json.dumps(gpu_frame.figures([EAGER, CUDA])))
    assert values["goals_milliseconds"] == {"fp32": 8.6, "tf32": 6.9, "fp16": 4.3}
    _, cuda = values["sessions"]
    assert (cuda["session"], cuda["precision"], cuda["work"]["kernels"]) == ("cuda", "fp16", 300)
    assert cuda["percentiles"]["model"]["p50"] == pytest.approx(4.01)
    assert cuda["transfers"]["p50"] == pytest.approx(1.6)
    assert cuda["objects"] == [2, 2, 1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
@pytest.mark.parametrize("script", [gpu_frame, gpu_precision, gpu_submodules, gpu_transfers])
def test_without_a_gpu_they_say_so(script: Any) -> None:
    with pytest.raises(SystemExit, match=r"^needs a CUDA GPU and a torch built for it"):
        script.main()


@pytest.fixture
def pretended_gpu(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of a toy network on the CPU stand for those of the GPU's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(CudaGraphSession, "of_network", lambda network, precision: TorchSession(network))
    for script in (gpu_frame, gpu_cases):
        monkeypatch.setattr(script, "pseudo_network", lambda _: network)
    for script in (gpu_frame, gpu_precision):
        monkeypatch.setattr(script, "TorchSession", lambda network, _: TorchSession(network))


@pytest.mark.usefixtures("pretended_gpu")
def test_every_wanted_precision_is_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the eager network, which needs fewer frames and no pictures; no more are made than are run."""
    asked: list[tuple[Any, ...]] = []

    def measured(open_session: Any, bundle: Any, drive: Any, *options: Any) -> Measurement:
        asked.append((*options, len(drive)))
        return CUDA if len(asked) > 1 else EAGER

    monkeypatch.setattr(gpu_frame, "measure", measured)
    gpu_frame.main([Precision.TF32, Precision.FP16], 30, 10, 4, tmp_path / "figures.json")
    assert asked == [(10, 0, "fp32", 35), (30, 4, "tf32", 35), (30, 4, "fp16", 35)]
    assert len(json.loads((tmp_path / "figures.json").read_text())["sessions"]) == 3
    assert "model, milliseconds: Some GPU" in capsys.readouterr().out


@pytest.mark.usefixtures("pretended_gpu")
def test_every_wanted_precision_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FP32 with the eager network, the others with FP32."""
    gpu_precision.main(None, None, [Precision.FP16], 2, tmp_path / "figures.json")
    reports = json.loads((tmp_path / "figures.json").read_text())["reports"]
    assert [(r["sequence"], r["reference"], r["candidate"], r["passed"], r["sense"]) for r in reports] == [
        ("probe", "eager fp32", "cuda fp32", True, []),
        ("probe", "cuda fp32", "cuda fp16", True, []),
    ]
    assert "probe: largest relative errors" in capsys.readouterr().out


def test_a_gpu_is_emulated_if_wanted(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the compiled network of each precision on the CPU, for which others stand here."""
    louder = LouderSession(network)
    asked: list[tuple[Precision, bool]] = []

    def compiled(network: Network, precision: Precision, *, inductor: bool) -> Any:
        asked.append((precision, inductor))
        return network if precision is Precision.FP32 else louder.run

    monkeypatch.setattr(gpu_emulation, "compile_network", compiled)
    case = Case("toy", network, bundle_of(network), probe_frames(CONFIG, 2, scene_change=1))
    fp32, fp16 = compare_precisions(case, [Precision.FP16], emulate=True)
    assert asked == [(Precision.FP32, False), (Precision.FP16, False)]
    assert (fp32.reference, fp32.candidate, fp32.passed) == ("eager fp32", "emulated fp32", True)
    assert (fp16.reference, fp16.candidate, fp16.passed) == ("emulated fp32", "emulated fp16", False)


@pytest.fixture(scope="module")
def reports(network: Network) -> list[Report]:
    """Of a session against itself, and of one with another BEV."""
    case = Case("toy", network, bundle_of(network), probe_frames(CONFIG, 3, scene_change=2))
    sessions = {"eager": TorchSession(network), "same": TorchSession(network), "louder": LouderSession(network)}
    return compare_sessions(case, sessions, [Pair("eager", "same"), Pair("eager", "louder")])


class TestPrecision:
    def test_every_result_is_compared_in_every_frame(self, reports: list[Report], network: Network) -> None:
        same, _ = reports
        assert {c.tensor for c in same.comparisons} >= {spec.name for spec in network.graph.results}
        assert (same.reference, same.candidate, same.frames) == ("eager", "same", 3)
        assert [decisions.frame for decisions in same.decisions] == [0, 1, 2]
        assert same.passed
        assert faults_of(same) == []

    def test_what_makes_no_sense_is_told(self, reports: list[Report]) -> None:
        _, louder = reports
        assert louder.first_divergence is not None
        assert louder.first_divergence.tensor == "bev"
        assert any("bev: relative error 0.01 (bound 0.002)" in fault for fault in faults_of(louder))

    def test_the_summary_has_the_largest_errors(self, reports: list[Report]) -> None:
        text = printed(summary("toy", reports))
        assert "same, against eager │ 0.0e+00 │" in text
        assert "louder, against eager │ 1.0e-02 │" in text
        assert "│ kept │ 0 of 3 frames │ the same" in text
        json.dumps([report.to_dict() for report in reports])

    def test_deviations_are_listed_by_output(self, reports: list[Report], network: Network) -> None:
        """Relative and absolute for floats; for integers how many differ."""
        text = printed(deviations(Case("toy", network, bundle_of(network), []), reports))
        assert "toy: relative, largest error" in text
        assert "│ bev │ 0.0e+00, 0.0e+00 │ 1.0e-02, " in text
        assert "│ next_track_id │ 0.00% differ │ 0.00% differ │" in text

    def test_frames_with_other_objects_are_kept_apart(self, reports: list[Report], network: Network) -> None:
        """In brackets: here one of three, and all."""
        same, _ = reports
        tracks = same.decisions[1].tracks
        assert tracks is not None
        lost = replace(same.decisions[1], tracks=replace(tracks, matched=tracks.expected - 1))
        one = replace(same, decisions=(same.decisions[0], lost, same.decisions[2]))
        every = replace(same, decisions=tuple(replace(lost, frame=frame) for frame in range(3)))
        text = printed(deviations(Case("toy", network, bundle_of(network), []), [one, every]))
        assert "│ bev │ 0.0e+00, 0.0e+00 (0.0e+00, 0.0e+00) │ (0.0e+00, 0.0e+00) │" in text


def test_golden_data_must_be_there(tmp_path: Any) -> None:
    with pytest.raises(SystemExit, match=r"pseudo_checkpoint.py is missing; --golden names the folder"):
        next(gpu_cases.golden_cases(tmp_path, ["A"]))


@pytest.mark.slow
def test_a_golden_case_has_the_networks_and_the_frames_of_its_sequence(golden: Any) -> None:
    """Its frames are those that the reference ran."""
    (case,) = gpu_cases.golden_cases(golden, ["A"])
    assert case.name == "golden A"
    assert len(case.frames) == 6
    expected = {spec.name: spec.resolve(case.bundle.config.dimensions()) for spec in case.bundle.frame_inputs}
    assert {name: array.shape for name, array in case.frames[0].items()} == expected
    assert measure_errors(case.frames[0]["image"], case.frames[1]["image"]).norm > 0


@pytest.mark.slow
def test_every_submodule_is_timed(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the tensors of a frame with state fed back; a GPU adds the graph, the compiler and the clock."""

    class Graph:
        def __init__(self, function: Any, example: Any) -> None:
            self._function = function

        def __call__(self, inputs: Any) -> Any:
            return self._function(inputs)

    class Event:
        def __init__(self, **_: bool) -> None:
            self.recorded = False

        def record(self) -> None:
            self.recorded = True

        def elapsed_time(self, end: Event) -> float:
            assert self.recorded
            assert end.recorded
            return 6.0

    monkeypatch.setattr(gpu_submodules, "FrameGraph", Graph)
    monkeypatch.setattr(gpu_submodules, "profiled", lambda call: (call(), WORK))
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    tensors = gpu_submodules.last_tensors(network)
    submodule = network.graph.submodules[-1]
    share = gpu_submodules.time_submodule(network, submodule, Precision.FP16, tensors, 3)
    assert (share.submodule, share.precision, share.milliseconds, share.work) == ("planning", "fp16", 2.0, WORK)
    assert "fp16 │ planning │ 2.000 │ 4.000 │ 300" in printed(gpu_submodules.share_table([share]))


def test_several_scenes_run_frame_by_frame_in_turn(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that were begun are waited for before the clock is read."""
    session, done, ran = TorchSession(network), [0], list[Any]()
    inputs = gpu_scenes.first_inputs(session, bundle_of(network))
    assert {*inputs, *session.run(inputs)} >= {state.source for state in network.graph.states}
    scenes: Any = [SimpleNamespace(run=lambda fed, number=number: ran.append(number)) for number in range(2)]

    def wait() -> None:
        done[0] = len(ran)

    # A second for each frame that has been waited for.
    monkeypatch.setattr("benchmarks.gpu_scenes.time.perf_counter", lambda: float(done[0]))
    assert gpu_scenes.frames_per_second(scenes, [inputs, inputs], 3, wait) == 1
    assert ran == [0, 1] * (gpu_scenes.WARM_UP + 3)
