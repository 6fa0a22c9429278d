"""Verification reports as a JSON file, and what can be read back of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.json_file import read_json
from toolkit.outputs import new_file
from toolkit.text import one_line, quoted
from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions, OccupancyDecisions, PlanDecisions, TrackDecisions
from toolkit.verification.metrics import Errors
from toolkit.verification.policy import Tolerance
from toolkit.verification.report import Report


@dataclass(frozen=True)
class WrittenReport:
    """A report as it was written: as `Report`, but its verdict in words; `bundle` is the `Bundle.identity` of it."""

    bundle: str
    reference: str
    candidate: str
    precision: str
    frames: int
    failure: str | None
    comparisons: tuple[Comparison, ...]
    decisions: tuple[Decisions, ...]


def write_reports(reports: Sequence[Report], bundle: Bundle, path: Path) -> None:
    """Write the reports on one bundle. Raises InputError if that is not possible."""
    values = [{"bundle": bundle.identity} | report.to_dict() for report in reports]
    with new_file(path) as work:
        work.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_reports(path: Path) -> tuple[WrittenReport, ...]:
    """What `write_reports` wrote. Raises InputError for another file, or a damaged one."""
    values = read_json(path, "verify again")
    try:
        reports = tuple(_report(report) for report in values)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is no report of `verify --json`: {one_line(error)}; verify again") from error
    if not reports:
        raise InputError(f"{path} holds no report; verify again")
    return reports


def _report(values: dict[str, Any]) -> WrittenReport:
    return WrittenReport(
        bundle=str(values["bundle"]),
        reference=str(values["reference"]),
        candidate=str(values["candidate"]),
        precision=str(values["precision"]),
        frames=int(values["frames"]),
        failure=None if values["failure"] is None else str(values["failure"]),
        comparisons=tuple(_comparison(comparison) for comparison in values["comparisons"]),
        decisions=tuple(_decisions(decisions) for decisions in values["decisions"]),
    )


def _comparison(values: dict[str, Any]) -> Comparison:
    errors = {name: _number(error) for name, error in values["errors"].items() if name != "non_finite"}
    tolerance = {name: None if bound is None else float(bound) for name, bound in values["tolerance"].items()}
    if not any(bound is not None for bound in tolerance.values()):
        raise ValueError("a comparison without a bound")
    expected, actual = values["errors"]["non_finite"]
    return Comparison(
        frame=int(values["frame"]),
        submodule=str(values["submodule"]),
        tensor=str(values["tensor"]),
        errors=Errors(**errors, non_finite=(int(expected), int(actual))),
        tolerance=Tolerance(**tolerance),
    )


def _decisions(values: dict[str, Any]) -> Decisions:
    kinds = {"tracks": TrackDecisions, "occupancy": OccupancyDecisions, "plan": PlanDecisions}
    taken: dict[str, Any] = {
        name: None if values[name] is None else kind(**{key: _number(item) for key, item in values[name].items()})
        for name, kind in kinds.items()
    }
    return Decisions(frame=int(values["frame"]), **taken)


def _number(value: Any) -> float:
    """JSON has no infinity: it was written as null."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{quoted(value)} is not a number")
    return value if isinstance(value, int) and abs(value) < 2**63 else float(value)
