"""Verification reports as a JSON file, and what can be read back of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.specs import Tolerance
from toolkit.storage.claims import FileOutput
from toolkit.storage.json_file import read_json, refusing
from toolkit.storage.outputs import new_file
from toolkit.storage.typed import Misfit, decode
from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions
from toolkit.verification.dump_findings import DumpFindings
from toolkit.verification.report import Report, jsonable

_NOT_READ = ("passed", "first_divergence", "diagnosis", "gate_failures")
"""Fields of a report that nothing is made of; most follow from others."""


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
    dump: DumpFindings | None = None


def write_reports(
    reports: Sequence[Report], bundle: Bundle, output: FileOutput | Path, dump: DumpFindings | None = None
) -> None:
    """Write the reports on one bundle, against a dump if one is given. Raises InputError if that is not possible."""
    values = [{"bundle": bundle.identity} | report.to_dict() for report in reports]
    if dump is not None:
        for value in values:
            failures = [*dump.failures(), *filter(None, [value["failure"]])]
            value |= {"passed": not failures, "failure": "; ".join(failures) or None, "dump": jsonable(asdict(dump))}
    with new_file(output) as work:
        work.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_reports(path: Path) -> tuple[WrittenReport, ...]:
    """What `write_reports` wrote. Raises InputError for another file, or a damaged one."""
    values = read_json(path, "verify again")
    with refusing(path, "verify again", "is no report of `verify --json`"):
        for report in values if isinstance(values, list) else ():
            _restore_infinity(report)
        reports = decode(tuple[WrittenReport, ...], values, largest=math.inf, ignored=_NOT_READ)
        for i, report in enumerate(reports):
            for j, comparison in enumerate(report.comparisons):
                if comparison.tolerance == Tolerance():
                    raise Misfit(f"$[{i}].comparisons[{j}].tolerance", "holds no bound")
    if not reports:
        raise InputError(f"{path} holds no report; verify again")
    return reports


def _restore_infinity(report: Any) -> None:
    """JSON has no infinity: where a number was expected, it was written as null."""
    measured = [(comparison, "errors") for comparison in _objects(report, "comparisons")]
    if isinstance(report, dict):
        inputs = [found.get("comparison") for found in _objects(report.get("dump"), "inputs")]
        measured += [(comparison, "errors") for comparison in inputs if isinstance(comparison, dict)]
    measured += [(taken, kind) for taken in _objects(report, "decisions") for kind in ("tracks", "occupancy", "plan")]
    for part, name in measured:
        if isinstance(numbers := part.get(name), dict):
            part[name] = {key: math.inf if number is None else number for key, number in numbers.items()}


def _objects(part: Any, name: str) -> list[dict[str, Any]]:
    """The objects in a list of an object, as far as all of them are such."""
    listed = part.get(name) if isinstance(part, dict) else None
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
