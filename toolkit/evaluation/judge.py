"""Frames times metrics: what each metric measures in each frame that has results, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toolkit.data.ground_truth import AnnotatedScene, Gap, GapCount, GroundTruth, counted
from toolkit.errors import InputError
from toolkit.evaluation.evaluation_file import Evaluation, MetricFindings, found
from toolkit.evaluation.metric import JudgedFrame, Measure, Measured, Metric, Verdict
from toolkit.evaluation.results_set import ResultsSet
from toolkit.plugin.manager import PluginManager
from toolkit.plugin.registry import PluginRegistry
from toolkit.text import quoted, shown
from toolkit.versions import PACKAGE, package_version

Place = tuple[AnnotatedScene, int]
"""A frame of the ground truth: its scene, and which of the scene's frames it is."""


def select_metrics(
    plugins: PluginManager, names: Sequence[str] = (), *, exporting: bool = False
) -> tuple[tuple[str, Metric], ...]:
    """Metrics by name, else all, of which only those that write files for other programs if `exporting`.

    Each comes with the name of its plugin. Raises InputError for an unknown one, and if none remains.
    """
    owners = {metric.name: owner for owner, metric in plugins.offered_metrics()}
    metrics = plugins.metrics()
    known = [metric.name for metric in metrics]
    for name in names:
        if name not in known:
            raise InputError(f"--metrics names {quoted(name)}; known are {', '.join(known)}")
    chosen = [metric for metric in metrics if not names or metric.name in names]
    if exporting:
        chosen = [metric for metric in chosen if metric.export is not None]
    if not chosen:
        named = ", ".join(names or known)
        raise InputError(
            f"none of the metrics {named} writes files for other programs; leave --format-only out"
            if exporting
            else "no plugin offers a metric; load one that does"
        )
    return tuple((owners[metric.name], metric) for metric in chosen)


def evaluation_of(
    results: ResultsSet,
    matched: Matched,
    findings: Sequence[MetricFindings],
    data: str,
) -> Evaluation:
    """All of it as one. `data` is the address of the ground truth."""
    return Evaluation(
        toolkit=package_version(PACKAGE),
        data=data,
        bundle=results.run.bundle,
        session=results.run.session,
        precision=results.run.precision,
        refinements=results.run.refinements,
        decoder=results.run.decoder,
        frames=len(matched.places),
        missing=tuple(counted(matched.missing)),
        metrics=tuple(findings),
    )


@dataclass(frozen=True)
class Matched:
    """Frames of the ground truth, in its order: the places of those that have results, and the tokens of the others."""

    places: tuple[Place, ...]
    missing: tuple[Gap, ...]


def match(results: ResultsSet, truth: GroundTruth, address: str) -> Matched:
    """Find the results of the ground truth's frames. Raises InputError for results of a frame that it does not have."""
    frames = {frame.token: (scene, i) for scene in truth.scenes for i, frame in enumerate(scene.frames)}
    strangers = [token for token in results.paths if token not in frames]
    if strangers:
        others = f", nor {len(strangers) - 1} others of {len(results.paths)}" if len(strangers) > 1 else ""
        raise InputError(
            f"{results.paths[strangers[0]]}: {address} has no such frame{others}: these are results of another split "
            "or data set; give the --data that was run"
        )
    lacks = [
        Gap(token, "finite results" if token in results.left_out else "results")
        for token in frames
        if token not in results.paths
    ]
    return Matched(tuple(place for token, place in frames.items() if token in results.paths), tuple(lacks))


def require_results(matched: Matched, *, allow_missing: bool) -> None:
    """Raise InputError if frames have no results; with `allow_missing`, if none has any."""
    if not matched.places:
        raise InputError(f"none of the {len(matched.missing)} frames has results; give the folder of a run with frames")
    if matched.missing and not allow_missing:
        total = len(matched.places) + len(matched.missing)
        left_out = sum(gap.what != "results" for gap in matched.missing)
        raise InputError(
            f"{len(matched.missing)} of {total} frames have no results, first {matched.missing[0].token}"
            + (f", {left_out} of them because values were not finite" if left_out else "")
            + "; give all shards, or judge what is there with --allow-missing"
        )


def judged_frames(results: ResultsSet, matched: Matched) -> Iterator[JudgedFrame]:
    """Each frame that has results, one at a time. Raises InputError for a damaged file."""
    for scene, index in matched.places:
        yield JudgedFrame(results.read(scene.frames[index].token), scene, index)


@dataclass(frozen=True)
class Judgement:
    """What all metrics found, and the files that they wrote for other programs, as paths in their folder.

    `further` are results that no submodule interprets, and so none can judge.
    """

    findings: tuple[MetricFindings, ...]
    exports: tuple[Path, ...]
    further: tuple[str, ...]


def judge(
    frames: Iterable[JudgedFrame],
    truth: GroundTruth,
    metrics: Sequence[tuple[str, Metric]],
    plugins: PluginRegistry,
    exports: Path,
    *,
    compute: bool = True,
) -> Judgement:
    """Have metrics, each with the name of its plugin, judge frames in the order of the ground truth.

    What they write for other programs goes into the folder `exports`; with `compute` false they do nothing else. A
    metric that cannot judge, for want of something in the results, the ground truth or its packages, says so in its
    notes. Raises InputError for damaged results, and for a plugin that fails, unless `PluginRegistry` skips it.
    """
    works = [_Work(owner, metric, plugins) for owner, metric in metrics]
    for work in works:
        work.open(truth)
    further: set[str] = set()
    for frame in frames:
        further.update(frame.result.further)
        for work in works:
            work.measure(frame)
    written = [path for work in works for path in work.export(truth, exports)]
    findings = [work.compute(truth, exports) for work in works] if compute else []
    return Judgement(tuple(findings), tuple(written), tuple(sorted(further)))


@dataclass
class _Work:
    """What a metric has measured so far. `refusal` says why it does nothing more, and is empty as long as it works."""

    owner: str
    metric: Metric
    plugins: PluginRegistry
    measuring: Measure | None = None
    frames: list[Place] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    refusal: str = ""

    def open(self, truth: GroundTruth) -> None:
        self.measuring = self._ask(lambda: self.metric.open(truth))

    def measure(self, frame: JudgedFrame) -> None:
        if self.refusal:
            return
        value = self._ask(lambda: self._measured(frame))
        if isinstance(value, Gap):
            self.gaps.append(value)
        elif not self.refusal:
            self.frames.append((frame.scene, frame.index))
            self.values.append(value)

    def export(self, truth: GroundTruth, folder: Path) -> Sequence[Path]:
        """The files that the metric writes for other programs, as paths in the folder."""
        export = self.metric.export
        if export is None or self.refusal or not self.values:
            return ()
        folder.mkdir(exist_ok=True)
        measured = self._all_measured(truth)
        # What cannot be written is for the user to know, not a reason to leave it out.
        return self._ask(lambda: _written(export(measured, folder), folder), passed=(OSError, InputError)) or ()

    def compute(self, truth: GroundTruth, folder: Path) -> MetricFindings:
        """What the metric says about all frames, or why it says nothing."""
        gaps = counted(self.gaps)
        findings: MetricFindings | None = None
        if self.values and not self.refusal:
            findings = self._ask(lambda: self._found(self.metric.compute(self._all_measured(truth), folder), gaps))
        return findings or self._found(Verdict(notes=[f"not judged: {self.refusal or _reason(gaps)}"]), gaps)

    def _measured(self, frame: JudgedFrame) -> Any:
        """What the metric measures in a frame, or what keeps it from doing so."""
        for need in self.metric.needs:
            if getattr(frame.result, need) is None:
                return Gap(frame.annotated.token, f"{need} in the results")
        assert self.measuring is not None
        return self.measuring(frame)

    def _all_measured(self, truth: GroundTruth) -> Measured:
        return Measured(truth, tuple(self.frames), tuple(self.values))

    def _found(self, verdict: Verdict, gaps: Sequence[GapCount]) -> MetricFindings:
        judged = {scene.frames[index].token for scene, index in self.frames}
        for ranking in verdict.rankings:
            for token in ranking.badness.keys() - judged:
                raise ValueError(f"the ranking {quoted(ranking.name)} has {quoted(token)}, no token of a judged frame")
        return found(self.metric.name, len(self.values), verdict, gaps)

    def _ask(self, question: Callable[[], Any], passed: tuple[type[Exception], ...] = ()) -> Any:
        """The metric's answer; None if it refuses, because of bad input or since its plugin has failed.

        Errors of the types in `passed` are neither: they are raised.
        """
        failure: Exception | None = None
        with self.plugins.answerable(self.owner, f"fails in the metric {self.metric.name}"):
            try:
                return question()
            except passed as error:
                failure = error
            except InputError as error:
                self.refusal = str(error)
        if failure is not None:
            raise failure
        self.refusal = self.refusal or self.plugins.skipped[self.owner]
        return None


def _written(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Files that a metric says it has written, as paths in its folder. Raises ValueError for another path."""
    written = []
    for path in paths:
        if not path.is_relative_to(folder):
            raise ValueError(f"export returns {shown(str(path))}, which is not in the folder that it was given")
        if not path.is_file():
            raise ValueError(f"export returns {shown(str(path.relative_to(folder)))}, which it has not written")
        written.append(path.relative_to(folder))
    return written


def _reason(gaps: Sequence[GapCount]) -> str:
    """Why there was nothing to judge."""
    return f"no frame has {' and '.join(gap.what for gap in gaps)}" if gaps else "no frame has results"
