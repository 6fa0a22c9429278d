"""Every kind of JSON file comes back as it was written; one that was changed is read or refused, in one line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.corpus.case import change_json
from tests.evaluation.evaluations import evaluation
from tests.tensorrt.sidecars import sidecar
from tests.visualize.drives import full_result
from toolkit.bundle import MANIFEST, Bundle, content_digest
from toolkit.data.frames import Command
from toolkit.data.stage_clock import Stage
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.settings import BuildSettings, CustomOps, ShapeRange
from toolkit.engines.tensorrt.sidecar import EngineTensor, RequiredPlugin, Sidecar, sidecar_path
from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import EVALUATION, read_evaluation, write_evaluation
from toolkit.precision import Precision
from toolkit.runtime.result_reader import read_result
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult, MotionModes, PlanResult, TrackedBox
from toolkit.runtime.run_record import RUN_RECORD, FrameRecord, RunRecord
from toolkit.specs import Tolerance
from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions, OccupancyDecisions, PlanDecisions, TrackDecisions
from toolkit.verification.metrics import Errors
from toolkit.verification.report import Report
from toolkit.verification.report_file import read_reports, write_reports

pytestmark = pytest.mark.thorough

relaxed = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXTS = st.text(max_size=9)
NAMES = st.text(min_size=1, max_size=9)
WHOLE = st.integers(0, 2**63 - 1)
NUMBERS = st.floats(0, 1e9)
MEASURED = st.floats(min_value=0, allow_nan=False)


def several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(one, max_size=3).map(tuple)


SHAPES = several(st.integers(-1, 2**40))
SIDECARS = st.builds(
    Sidecar,
    sha256=TEXTS,
    bytes=WHOLE,
    onnx=st.dictionaries(TEXTS, TEXTS, max_size=3),
    target=TEXTS,
    version=TEXTS,
    capabilities=several(TEXTS),
    precision=TEXTS,
    custom_ops=TEXTS,
    tensors=several(st.builds(EngineTensor, TEXTS, TEXTS, TEXTS, SHAPES)),
    plugins=several(st.builds(RequiredPlugin, TEXTS, TEXTS, WHOLE)),
    layers=st.dictionaries(TEXTS, WHOLE, max_size=3),
    seconds=NUMBERS,
    peak_mib=WHOLE,
    toolkit=TEXTS,
)
PATHS = st.just(Path("a/b.onnx"))
REQUESTS = st.builds(
    BuildRequest,
    model=PATHS,
    engine=PATHS,
    settings=st.builds(
        BuildSettings,
        target=st.just(Target.TENSORRT_RTX),
        precision=st.sampled_from([Precision.FP16, Precision.BF16]),
        keep_fp32=several(TEXTS),
        custom_ops=st.sampled_from([CustomOps.PLUGIN, CustomOps.FUNCTION]),
        capabilities=several(TEXTS),
        profiles=st.dictionaries(TEXTS, st.builds(ShapeRange, SHAPES, SHAPES, SHAPES), max_size=2),
        workspace=st.none() | WHOLE,
        optimization_level=st.none() | st.integers(0, 5),
        tf32=st.booleans(),
        pack=st.booleans(),
    ),
    plugin_files=several(PATHS),
    disabled=several(TEXTS),
    kept_model=st.none() | PATHS,
)
FRAMES = st.builds(
    FrameRecord,
    frame=st.text(st.characters(codec="utf-8", exclude_characters="/\\\0."), min_size=1, max_size=9),
    scene=TEXTS,
    boxes=WHOLE,
    dropped_tracks=WHOLE,
    dropped_agents=WHOLE,
    repairs=TEXTS,
    left_out=st.booleans(),
    seconds=st.dictionaries(st.sampled_from(Stage), NUMBERS),
)
RECORDS = st.builds(RunRecord, NAMES, NAMES, several(FRAMES), NAMES)
COMPARISONS = st.builds(
    Comparison,
    WHOLE,
    TEXTS,
    TEXTS,
    st.builds(Errors, *[MEASURED] * 7, st.tuples(WHOLE, WHOLE)),
    st.builds(Tolerance, st.none() | NUMBERS, st.none() | NUMBERS, NUMBERS),
)
DECISIONS = st.builds(
    Decisions,
    WHOLE,
    st.none() | st.builds(TrackDecisions, *[WHOLE] * 5, MEASURED),
    st.none() | st.builds(OccupancyDecisions, *[WHOLE] * 4),
    st.none() | st.builds(PlanDecisions, MEASURED, MEASURED, MEASURED),
)
REPORTS = st.builds(
    Report,
    reference=TEXTS,
    candidate=TEXTS,
    precision=st.just("fp16"),
    frames=WHOLE,
    comparisons=several(COMPARISONS),
    decisions=several(DECISIONS),
    gate_failures=st.just(()),
    diagnosis=st.none(),
)


@st.composite
def motions(draw: st.DrawFn) -> MotionModes:
    modes, steps = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    numbers = draw(st.lists(NUMBERS, min_size=modes * steps * 2, max_size=modes * steps * 2))
    trajectories = np.array(numbers, np.float32).reshape(modes, steps, 2)
    return MotionModes(trajectories, np.linspace(0, 1, modes, dtype=np.float32), draw(NUMBERS))


BOXES = st.builds(
    TrackedBox,
    track_id=WHOLE,
    label=NAMES,
    score=NUMBERS,
    center=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    size=st.tuples(NUMBERS, NUMBERS, NUMBERS),
    heading=NUMBERS,
    velocity=st.tuples(NUMBERS, NUMBERS),
    motion=st.none() | motions(),
)
PLANS = st.builds(PlanResult, motions().map(lambda motion: motion.trajectories[0]), NUMBERS)
RESULTS = st.builds(
    FrameResult,
    frame=st.just("0007"),
    scene=NAMES,
    timestamp=NUMBERS,
    command=st.sampled_from(Command),
    boxes=several(BOXES),
    ego_motion=st.none() | motions(),
    plan=st.none() | PLANS,
    dropped_tracks=WHOLE,
)


@given(written=SIDECARS)
def test_a_sidecar_comes_back(written: Sidecar, tmp_path_factory: pytest.TempPathFactory) -> None:
    engine = tmp_path_factory.mktemp("engine") / "m.engine"
    written.write(engine)
    assert Sidecar.read(engine) == written


@given(REQUESTS)
def test_a_build_request_comes_back(request: BuildRequest) -> None:
    assert BuildRequest.from_json(request.to_json()) == request


@given(written=RECORDS)
def test_a_run_record_comes_back(written: RunRecord, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("results")
    written.write(folder)
    assert RunRecord.read(folder) == written


@relaxed
@given(written=st.lists(REPORTS, min_size=1, max_size=2))
def test_a_report_comes_back(written: list[Report], bundle: Bundle, tmp_path: Path) -> None:
    """With errors that are infinite, too."""
    write_reports(written, bundle, tmp_path / "verify.json")
    for read, report in zip(read_reports(tmp_path / "verify.json"), written, strict=True):
        assert (read.bundle, read.failure) == (bundle.identity, report.failure())
        for name in ("reference", "candidate", "precision", "frames", "comparisons", "decisions"):
            assert getattr(read, name) == getattr(report, name)


@relaxed
@given(written=RESULTS)
def test_a_result_comes_back(written: FrameResult, tmp_path: Path) -> None:
    """To the last byte; `tests/toolkit/runtime/test_result_reader.py` has results with grids."""
    before = write_result(written, tmp_path).read_bytes()
    assert write_result(read_result(tmp_path / "0007.json"), tmp_path).read_bytes() == before


@dataclass(frozen=True)
class Document:
    """A kind of file: how a good one is written into a folder, and how it is read back."""

    write: Callable[[Path, Bundle], Path]
    read: Callable[[Path], object]


def write_bundle(folder: Path, bundle: Bundle) -> Path:
    for name in ("model.onnx", "weights.safetensors"):
        (folder / name).touch()
    files = {"functional": "model.onnx", "weights": "weights.safetensors"}
    replace(bundle, path=folder, files=files, sha256=dict.fromkeys(files.values(), "0" * 64)).write()
    return folder / MANIFEST


def write_sidecar(folder: Path, bundle: Bundle) -> Path:
    sidecar().write(folder / "m.engine")
    return sidecar_path(folder / "m.engine")


def write_report(folder: Path, bundle: Bundle) -> Path:
    errors = Errors(math.inf, 0.1, 0.2, 0.3, 0.4, 1.0, 0.5, (0, 3))
    tracks, occupancy = TrackDecisions(1, 2, 3, 4, 5, 0.5), OccupancyDecisions(1, 2, 3, 4)
    decisions = Decisions(0, tracks, occupancy, PlanDecisions(1.0, 2.0, 0.5))
    comparison = Comparison(0, "planner", "plan", errors, Tolerance(norm=1e-3))
    report = Report("torch", "onnxruntime", "fp16", 1, (comparison,), (decisions,), (), None)
    write_reports([report], bundle, folder / "verify.json")
    return folder / "verify.json"


def write_judgement(folder: Path, bundle: Bundle) -> Path:
    write_evaluation(evaluation(), folder / EVALUATION)
    return folder / EVALUATION


DOCUMENTS = {
    "bundle": Document(write_bundle, lambda path: Bundle.read(path.parent)),
    "sidecar": Document(write_sidecar, lambda path: Sidecar.read(path.with_suffix(""))),
    "report": Document(write_report, read_reports),
    "evaluation": Document(write_judgement, read_evaluation),
    "result": Document(lambda folder, bundle: write_result(full_result(), folder), read_result),
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(max_size=9), v, max_size=4))
JUNK = VALUES | st.sampled_from([..., 10**400, -(2**64), math.inf, "x" * 5000, "\x1b[2J\n", "../../etc/passwd"])
PLACE = re.compile(
    r"\$|unknown field|field '\w+' is missing|format is not|command: |frame: |is no result of this|holds no report"
    r"|file .* is missing|does not exist; copy the folder whole"
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The keys of every item in nested JSON containers, and a further one in every object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    further = [(*path, "further")] if isinstance(value, dict) else []
    return further + [place for key, item in items for place in ((*path, key), *places(item, (*path, key)))]


def refusal(read: Callable[[], object]) -> str | None:
    """What is said against a document, if anything."""
    try:
        read()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("kind", DOCUMENTS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=JUNK)
def test_a_changed_document_is_read_or_refused(
    kind: str, data: st.DataObject, junk: Any, bundle: Bundle, tmp_path: Path
) -> None:
    """Whatever was replaced, removed or added, even where the digest of a manifest was made anew."""
    document = DOCUMENTS[kind]
    path = document.write(tmp_path, bundle)
    keys = data.draw(st.sampled_from(places(json.loads(path.read_text()))))
    if junk is ... and keys[-1] == "further":
        return
    change_json(path, keys, junk)
    if kind == "bundle" and "digest" not in keys:
        change_json(path, ("digest",), content_digest(json.loads(path.read_text())))
    message = refusal(lambda: document.read(path))
    if message is not None:
        assert str(tmp_path) in message
        assert message.isprintable()
        assert len(message) < 1000
        assert PLACE.search(message), message


@relaxed
@given(data=st.data(), junk=JUNK)
def test_a_changed_run_record_is_read_or_refused(data: st.DataObject, junk: Any, tmp_path: Path) -> None:
    frame = FrameRecord("0001", "monday", 3, 0, 1, "", False, {Stage.NETWORK: 0.5})
    RunRecord("d" * 64, "cuda", (frame,), "fp16", ("--careful",)).write(tmp_path)
    lines = (tmp_path / RUN_RECORD).read_text().splitlines()
    number = data.draw(st.sampled_from([0, 1]))
    (tmp_path / "line.json").write_text(lines[number])
    keys = data.draw(st.sampled_from(places(json.loads(lines[number]))))
    if junk is ... and keys[-1] == "further":
        return
    change_json(tmp_path / "line.json", keys, junk)
    lines[number] = (tmp_path / "line.json").read_text()
    (tmp_path / RUN_RECORD).write_text("\n".join(lines))
    message = refusal(lambda: RunRecord.read(tmp_path))
    if message is not None:
        assert re.search(rf"{RUN_RECORD} is damaged: line {number + 1}: \$.*; run the frames again$", message)
        assert message.isprintable()
