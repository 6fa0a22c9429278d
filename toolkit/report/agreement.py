"""How well the converted network agrees with the checkpoint's: at conversion, and in verifications since."""

from __future__ import annotations

from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.report.contents import Agreement, Check, Facts, Table, TrainingEnvironment, Verification
from toolkit.report.texts import facts_of
from toolkit.verification.comparison import Comparison
from toolkit.verification.dump_findings import DumpFindings
from toolkit.verification.policy import FULL_PRECISION, by_sense
from toolkit.verification.report import MEASURES, worst_of_each
from toolkit.verification.report_file import WrittenReport, read_reports
from toolkit.verification.table import decision_row

MOST_TENSORS = 16
"""Rows of a table, besides tensors that exceed their bounds."""
_NUMERIC = frozenset(range(2, 8))


def describe_agreement(bundle: Bundle, verification: Path | None) -> Agreement:
    """Parity as the bundle and a file of `verify --json` tell. Raises InputError for a file about another bundle."""
    reports = read_reports(verification) if verification else ()
    if any(report.bundle != bundle.identity for report in reports):
        raise InputError(f"{verification} is about another bundle than {bundle.path}; verify that, or leave it out")
    worst = {key: MEASURES.get(value, value) for key, value in facts_of(bundle.parity.get("worst")).items()}
    checked = facts_of({key: value for key, value in bundle.parity.items() if key != "worst"})
    return Agreement(
        worst=worst.get("error", "unknown"),
        facts={**checked, **{f"worst {key}": value for key, value in worst.items()}},
        checks=(_proof(checked, worst), *(_check(report) for report in reports)),
        verifications=tuple(_verification(report) for report in reports),
        environment=next((_environment(report.dump) for report in reports if report.dump is not None), None),
        warnings=tuple(f"verification failed: {report.failure}" for report in reports if report.failure),
    )


def _environment(dump: DumpFindings) -> TrainingEnvironment:
    inputs = dump.worst_inputs()
    return TrainingEnvironment(
        file=dump.file,
        facts=dump.facts,
        differing=dump.failures(),
        notes=dump.notes,
        inputs=Table(
            "Inputs as the toolkit prepares them beside the dump's, each in its worst frame",
            ("input", "max |Δ|", "error", "bound", "of bound", "frame", "measure", "differs"),
            tuple((*_measured(found.comparison), found.reason or "") for found in inputs),
            numeric=frozenset(range(1, 6)),
            marked=frozenset(i for i, found in enumerate(inputs) if not found.comparison.passed),
        ),
    )


def _proof(checked: Facts, worst: Facts) -> Check:
    """The check at conversion: without it no bundle is written."""
    if not worst:
        return Check("conversion", False, "the bundle records no check; convert again")
    sessions, frames = (checked.get(key, "unknown") for key in ("sessions", "frames"))
    finding = f"sessions {sessions}, {frames} frames with state fed back: worst {worst.get('measure', 'error')} "
    finding += f"{worst.get('error')}, tolerance {worst.get('tolerance')} (tensor {worst.get('tensor')})"
    return Check("conversion", True, finding)


def _check(report: WrittenReport) -> Check:
    """A verification since, with the worst of all figures beside its bound."""
    subject = f"{report.candidate}, {report.precision}"
    if report.failure:
        return Check(subject, False, report.failure)
    frames = f"equal decisions in {report.frames} frames against {report.reference}"
    if by_sense(report.precision) or not report.comparisons:
        return Check(
            subject, True, f"{frames}, within the gates of reduced precision" if report.comparisons else frames
        )
    worst = max(worst_of_each(report.comparisons), key=lambda c: (c.severity, c.errors.norm))
    figures = f"{MEASURES[worst.measure]} {_short(worst.error)}, tolerance {worst.bound:g} (tensor {worst.tensor})"
    return Check(subject, True, f"{frames}: worst {figures}")


def _verification(report: WrittenReport) -> Verification:
    worst = sorted(worst_of_each(report.comparisons), key=lambda c: (c.severity, c.errors.norm), reverse=True)
    failed = [] if by_sense(report.precision) else [c for c in worst if not c.passed]
    shown = [c for rank, c in enumerate(worst) if rank < MOST_TENSORS or c in failed]
    title = f"{report.candidate} against {report.reference}, {report.frames} frames, {report.precision}"
    title += f"; bounds of tensors are those of {FULL_PRECISION}" if by_sense(report.precision) else ""
    columns = ("submodule", "tensor", "max |Δ|", "mean |Δ|", "error", "bound", "of bound", "frame", "measure")
    return Verification(
        title=title,
        failure=report.failure,
        tensors=Table(
            f"The {len(shown)} worst of {len(worst)} tensors, each in its worst frame",
            columns,
            tuple(_tensor_row(comparison) for comparison in shown),
            numeric=_NUMERIC,
            marked=frozenset(i for i, comparison in enumerate(shown) if comparison in failed),
        ),
        decisions=Table(
            f"Decisions frame by frame ({report.reference} → {report.candidate})",
            ("frame", "reported objects", "occupied cells", "plan length"),
            tuple((str(decisions.frame), *decision_row(decisions)) for decisions in report.decisions),
            numeric=frozenset({0}),
        ),
    )


def _tensor_row(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.submodule, *_measured(comparison, _short(comparison.errors.mean)))


def _measured(comparison: Comparison, *more: str) -> tuple[str, ...]:
    """A tensor's figures, `more` of them behind the largest difference."""
    return (
        comparison.tensor,
        _short(comparison.errors.largest),
        *more,
        _short(comparison.error),
        f"{comparison.bound:g}",
        f"{100 * comparison.severity:.2g} %",
        str(comparison.frame),
        MEASURES[comparison.measure],
    )


def _short(error: float) -> str:
    return f"{error:.1e}" if error else "0"
