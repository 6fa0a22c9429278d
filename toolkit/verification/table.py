"""A verification report as tables for the terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from toolkit.text import LONGEST_LINE, shown
from toolkit.verification.comparison import Comparison
from toolkit.verification.decisions import Decisions, OccupancyDecisions, PlanDecisions, TrackDecisions
from toolkit.verification.dump_findings import DumpFindings
from toolkit.verification.policy import FULL_PRECISION, by_sense
from toolkit.verification.report import Report

BOUNDS = {"norm": "‖Δ‖/‖a‖", "largest": "max |Δ|", "share": "differ"}


def print_report(report: Report, console: Console) -> None:
    """Print errors by tensor, decisions by frame, and the verdict."""
    console.print(tensor_table(report), decision_table(report))
    for failure in report.gate_failures:
        console.print(f"  [red]frame {failure.frame}, {failure.gate}:[/]", Text(shown(failure.reason, LONGEST_LINE)))
    if report.diagnosis is not None:
        console.print(Text(shown(f"  Divergence {report.diagnosis}", LONGEST_LINE)))


def tensor_table(report: Report) -> Table:
    """The worst frame of every tensor."""
    title = f"{report.candidate} against {report.reference}: worst of {report.frames} frames, {report.precision}"
    title += f"; bounds are those of {FULL_PRECISION}" if by_sense(report.precision) else ""
    table = Table(title=Text(shown(title)))
    for heading in ("submodule", "tensor"):
        table.add_column(heading)
    for heading in ("max |Δ|", "mean |Δ|", "max rel", "mean rel", "cosine", "error", "bound", "frame"):
        table.add_column(heading, justify="right")
    table.add_column("")
    previous = ""
    exceeded = "beyond" if by_sense(report.precision) else "[bold red]FAIL[/]"
    for comparison in report.worst_of_each():
        if previous not in ("", comparison.submodule):
            table.add_section()
        submodule = comparison.submodule if comparison.submodule != previous else ""
        table.add_row(
            Text(shown(submodule)), *_tensor_row(comparison), "[green]ok[/]" if comparison.passed else exceeded
        )
        previous = comparison.submodule
    return table


def _tensor_row(comparison: Comparison) -> list[str | Text]:
    errors = comparison.errors
    numbers = (errors.largest, errors.mean, errors.largest_relative, errors.mean_relative)
    return [
        Text(shown(comparison.tensor)),
        *(f"{number:.1e}" if number else "0" for number in numbers),
        f"{errors.cosine:.6f}",
        f"{comparison.error:.1e}" if comparison.error else "0",
        f"{BOUNDS[comparison.measure]} ≤ {comparison.bound:g}",
        str(comparison.frame),
    ]


def input_table(findings: DumpFindings) -> Table | Group:
    """The worst frame of every input of a dump beside the prepared one; nothing if none is compared."""
    if not findings.inputs:
        return Group()
    table = Table(title=Text(f"Inputs as prepared here against {shown(findings.file)}: worst frame"))
    for heading in ("input", "max |Δ|", "error", "bound", "frame", "", "differs"):
        table.add_column(heading, justify="right" if heading in ("max |Δ|", "error", "bound", "frame") else "left")
    for found in findings.worst_inputs():
        comparison = found.comparison
        table.add_row(
            Text(shown(comparison.tensor)),
            f"{comparison.errors.largest:.1e}" if comparison.errors.largest else "0",
            f"{comparison.error:.1e}" if comparison.error else "0",
            f"{BOUNDS[comparison.measure]} ≤ {comparison.bound:g}",
            str(comparison.frame),
            "[green]ok[/]" if comparison.passed else "[bold red]FAIL[/]",
            Text(shown(found.reason or "")),
        )
    return table


def decision_table(report: Report) -> Table | Group:
    """Decisions frame by frame; nothing where the network takes none that are known."""
    if not any(d.tracks or d.occupancy or d.plan for d in report.decisions):
        return Group()
    table = Table(title="Decisions (reference → candidate)")
    table.add_column("frame", justify="right")
    for heading in ("reported objects", "occupied cells", "plan length"):
        table.add_column(heading)
    for decisions in report.decisions:
        table.add_row(str(decisions.frame), *decision_row(decisions))
    return table


def decision_row(decisions: Decisions) -> tuple[str, str, str]:
    """Objects, occupied cells and the plan of one frame, in words."""
    return _tracks(decisions.tracks), _occupancy(decisions.occupancy), _plan(decisions.plan)


def _tracks(tracks: TrackDecisions | None) -> str:
    if tracks is None:
        return "-"
    differences = (
        (tracks.expected - tracks.matched, "lost"),
        (tracks.actual - tracks.matched, "extra"),
        (tracks.relabelled, "relabelled"),
        (tracks.reordered, "reordered"),
    )
    parts = [f"{count} {what}" for count, what in differences if count]
    return ", ".join([f"{tracks.expected} → {tracks.actual}", *parts, f"moved {tracks.moved:.1e} m"])


def _occupancy(occupancy: OccupancyDecisions | None) -> str:
    if occupancy is None:
        return "-"
    return f"{occupancy.expected} → {occupancy.actual}, {occupancy.flipped} flipped"


def _plan(plan: PlanDecisions | None) -> str:
    return "-" if plan is None else f"{plan.expected:.2f} → {plan.actual:.2f} m, moved {plan.moved:.1e} m"
