"""How far the cuda session departs from FP32 in TF32, FP16 and BF16, and in FP32 from the eager network on the GPU.

    python -m benchmarks.gpu_precision [--golden FOLDER] [--precision fp16 …] [--frames 12] [--json gpu_precision.json]
    python -m benchmarks.gpu_precision --emulate …

Every session has its own state fed back. With `--golden`, the reference's golden data, the weights and frames are those
of sequences A and C; without it the pseudo-trained weights and probe frames. Tolerances, gates and decisions are those
of `uniad-toolkit verify`: reduced precisions may exceed the tolerances, which are FP32's, but should make the same
sense (toolkit/verification/sense.py). `--emulate` needs no GPU (benchmarks/gpu_emulation.py).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from benchmarks.gpu_cases import Case, golden_cases, probe_case
from benchmarks.gpu_emulation import EmulatedSession
from toolkit.benchmarking.environment import environment
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.precision import Precision
from toolkit.specs import TensorSpec
from toolkit.verification.decisions import Decisions
from toolkit.verification.metrics import Errors
from toolkit.verification.observation import Observer
from toolkit.verification.policy import FP32
from toolkit.verification.report import Report
from toolkit.verification.sense import sense_failures
from toolkit.verification.table import print_report
from toolkit.verification.verify import Findings, inspect_frame

EAGER = "eager fp32"
SHOWN = ("bev", "boxes", "box_scores", "motion_trajectories", "motion_log_probs", "occupancy_scores", "plan")
"""Outputs of the summary; the table of each session has all."""


class Seed(StrEnum):
    """Of the golden sequences."""

    A = "A"
    C = "C"


@dataclass
class Pair:
    """Two sessions, by their names, and what has been found about the second."""

    reference: str
    candidate: str
    findings: Findings = field(default_factory=Findings)


def main(
    golden: Annotated[Path | None, typer.Option(help="Folder of the reference's golden data.")] = None,
    seed: Annotated[list[Seed] | None, typer.Option(help="Golden sequences to run; both by default.")] = None,
    precision: Annotated[list[Precision] | None, typer.Option(help="To compare with FP32; all by default.")] = None,
    frames: Annotated[int, typer.Option(min=2, help="Probe frames, without golden data.")] = 12,
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
    emulate: Annotated[bool, typer.Option("--emulate", help="Round as the GPU does, on the CPU.")] = False,
) -> None:
    """Compare the precisions of the cuda session on the GPU at hand, or of its emulation."""
    if not emulate and not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it; --emulate needs none")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    console, values = Console(width=150), []
    precisions = [p for p in precision or list(Precision) if p is not Precision.FP32]
    for case in golden_cases(golden, seed or list(Seed)) if golden else [probe_case(frames)]:
        reports = compare_precisions(case, precisions, emulate=emulate)
        for report in reports:
            print_report(report, console)
        console.print(deviations(case, reports), summary(case.name, reports))
        values += [{"sequence": case.name, "sense": faults_of(r)} | r.to_dict() for r in reports]
    if output is not None:
        command = shlex.join(["python", "-m", "benchmarks.gpu_precision", *sys.argv[1:]])
        figures = {"command": command, "environment": environment("torch"), "reports": values}
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def compare_precisions(case: Case, precisions: Sequence[Precision], *, emulate: bool) -> list[Report]:
    """FP32 against the eager network, then each of `precisions` against FP32."""
    names = {p: f"{EmulatedSession.name if emulate else CudaGraphSession.name} {p}" for p in Precision}
    sessions: dict[str, Session] = {EAGER: TorchSession(case.network, "cpu" if emulate else "cuda")}
    for each in (Precision.FP32, *precisions):
        open_session = EmulatedSession.of_network if emulate else CudaGraphSession.of_network
        sessions[names[each]] = open_session(case.network, precision=each)
    fp32 = names[Precision.FP32]
    return compare_sessions(case, sessions, [Pair(EAGER, fp32), *(Pair(fp32, names[p]) for p in precisions)])


def compare_sessions(case: Case, sessions: Mapping[str, Session], pairs: Sequence[Pair]) -> list[Report]:
    """Run all sessions side by side and report on each pair, by the tolerances of FP32."""
    observers = {name: Observer(case.bundle, session) for name, session in sessions.items()}
    for number, frame in enumerate(case.frames):
        seen = {name: observer.step(frame) for name, observer in observers.items()}
        for pair in pairs:
            expected, actual = seen[pair.reference], seen[pair.candidate]
            names = (pair.reference, pair.candidate)
            inspect_frame(pair.findings, case.bundle, FP32, number, expected, actual, names)
    return [
        Report(
            reference=pair.reference,
            candidate=pair.candidate,
            precision=FP32.precision,
            frames=len(case.frames),
            comparisons=tuple(pair.findings.comparisons),
            decisions=tuple(pair.findings.decisions),
            gate_failures=tuple(pair.findings.gate_failures),
            diagnosis=None,
        )
        for pair in pairs
    ]


def faults_of(report: Report) -> list[str]:
    """Everything that makes no sense, gates included, frame by frame."""
    failures = list(report.gate_failures)
    for decisions in report.decisions:
        failures += sense_failures(decisions, [c for c in report.comparisons if c.frame == decisions.frame])
    return [f"frame {failure.frame}: {failure.gate}: {failure.reason}" for failure in failures]


def deviations(case: Case, reports: Sequence[Report]) -> Table:
    """Of every result, the largest relative and absolute error, or how many entries of integers differ.

    In brackets over the frames that report other objects, or in another order: rows stand for other things there.
    """
    table = Table("", *(report.candidate for report in reports), title=f"{case.name}: relative, largest error")
    for spec in case.bundle.results:
        cells = []
        for report in reports:
            same = {decisions.frame for decisions in report.decisions if same_rows(decisions)}
            found = [c for c in report.comparisons if c.tensor == spec.name]
            cell = deviation(spec, [c.errors for c in found if c.frame in same])
            others = deviation(spec, [c.errors for c in found if c.frame not in same])
            cells.append(f"{cell} ({others})".strip() if others else cell)
        table.add_row(spec.name, *cells)
    return table


def same_rows(decisions: Decisions) -> bool:
    """Whether both report the same objects in the same order."""
    tracks = decisions.tracks
    return tracks is None or (tracks.expected == tracks.actual == tracks.matched and not tracks.reordered)


def deviation(spec: TensorSpec, errors: Sequence[Errors]) -> str:
    """The largest of several frames; nothing of none."""
    if not errors:
        return ""
    if spec.dtype.startswith("float"):
        return f"{max(e.norm for e in errors):.1e}, {max(e.largest for e in errors):.1e}"
    return f"{max(e.share for e in errors):.2%} differ"


def summary(title: str, reports: Sequence[Report]) -> Table:
    """The largest relative error of the main outputs over all frames, and whether decisions keep their bounds."""
    table = Table("", *SHOWN, "FP32 tolerance", "objects differ in", "sense", title=f"{title}: largest relative errors")
    for report in reports:
        errors = {
            name: max(c.errors.norm for c in report.comparisons if c.tensor == name)
            for name in {c.tensor for c in report.comparisons}
        }
        tracks = [d.tracks for d in report.decisions if d.tracks]
        differing = sum(not t.expected == t.actual == t.matched or bool(t.relabelled) for t in tracks)
        faults = faults_of(report)
        table.add_row(
            f"{report.candidate}, against {report.reference}",
            *(f"{errors[name]:.1e}" if name in errors else "-" for name in SHOWN),
            "[green]kept[/]" if report.first_divergence is None else "exceeded",
            f"{differing} of {report.frames} frames",
            f"[red]{len(faults)} faults, first {faults[0]}[/]" if faults else "[green]the same[/]",
        )
    return table


if __name__ == "__main__":
    run_benchmark(main)
