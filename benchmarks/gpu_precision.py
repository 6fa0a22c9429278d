"""How far the cuda session departs from FP32 in TF32, FP16 and BF16, and in FP32 from the eager network on the GPU.

    python -m benchmarks.gpu_precision [--golden FOLDER] [--precision fp16 …] [--frames 12] [--json gpu_precision.json]

Every session has its own state fed back. With `--golden`, the reference's golden data, the weights and frames are those
of sequences A and C; without it the pseudo-trained weights and probe frames. Tolerances, gates and decisions are those
of `uniad-toolkit verify`: reduced precisions may exceed the tolerances, which are FP32's, but should make the same
sense (toolkit/verification/sense.py).
"""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_network import bundle_of, pseudo_network
from toolkit.anchors import load_motion_anchors
from toolkit.benchmarking.environment import environment
from toolkit.bundle import Bundle
from toolkit.config import ModelConfig
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu.precision import Precision
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.network import Network, join
from toolkit.plugin_manager import PluginManager
from toolkit.runtime import official_interface as official
from toolkit.verification.observation import Observer
from toolkit.verification.policy import FP32
from toolkit.verification.report import Report
from toolkit.verification.sense import sense_faults
from toolkit.verification.table import print_report
from toolkit.verification.verify import Findings, inspect_frame

EAGER = "eager fp32"
SEEDS = ("A", "C")
SHOWN = ("bev", "boxes", "box_scores", "motion_trajectories", "motion_log_probs", "occupancy_scores", "plan")
"""Outputs of the summary; the table of each session has all."""


@dataclass(frozen=True)
class Case:
    """A network and frames for it."""

    name: str
    network: Network
    bundle: Bundle
    frames: Sequence[Mapping[str, np.ndarray]]


@dataclass
class Pair:
    """Two sessions, by their names, and what has been found about the second."""

    reference: str
    candidate: str
    findings: Findings = field(default_factory=Findings)


def main(
    golden: Annotated[Path | None, typer.Option(help="Folder of the reference's golden data.")] = None,
    seed: Annotated[list[str] | None, typer.Option(help="Golden sequences to run; A and C by default.")] = None,
    precision: Annotated[list[Precision] | None, typer.Option(help="To compare with FP32; all by default.")] = None,
    frames: Annotated[int, typer.Option(min=2, help="Probe frames, without golden data.")] = 12,
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
) -> None:
    """Compare the precisions of the cuda session on the GPU at hand."""
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    console, values = Console(width=150), []
    precisions = [p for p in precision or list(Precision) if p is not Precision.FP32]
    for case in golden_cases(golden, seed or SEEDS) if golden else [probe_case(frames)]:
        sessions: dict[str, Session] = {EAGER: TorchSession(case.network, "cuda")}
        for each in (Precision.FP32, *precisions):
            sessions[cuda(each)] = CudaGraphSession.of_network(case.network, precision=each)
        pairs = [Pair(EAGER, cuda(Precision.FP32)), *(Pair(cuda(Precision.FP32), cuda(p)) for p in precisions)]
        reports = compare_sessions(case, sessions, pairs)
        for report in reports:
            print_report(report, console)
        console.print(summary(case.name, reports))
        values += [{"sequence": case.name, "sense": faults_of(r)} | r.to_dict() for r in reports]
    if output is not None:
        command = shlex.join(["python", "-m", "benchmarks.gpu_precision", *sys.argv[1:]])
        figures = {"command": command, "environment": environment("cuda"), "reports": values}
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def cuda(precision: Precision) -> str:
    """What the cuda session of a precision is called here."""
    return f"cuda {precision.value}"


def probe_case(frames: int) -> Case:
    """Made-up weights and frames, with a change of scene."""
    network = pseudo_network(ModelConfig())
    return Case("probe", network, bundle_of(network), probe_frames(network.graph.config, frames, -(-2 * frames // 3)))


def golden_cases(folder: Path, seeds: Sequence[str]) -> Iterator[Case]:
    """The golden sequences, with the network that each was made with."""
    checkpoint, inputs = load_script(folder / "pseudo_checkpoint.py"), load_script(folder / "make_inputs.py")
    config = ModelConfig()
    anchors = torch.from_numpy(load_motion_anchors(folder / "motion_anchor_infos_mode6.pkl", config))
    for seed in seeds:
        network = Network(join(PluginManager.load().submodules(), config))
        weights = checkpoint.make_state_dict(str(folder / "state_dict_manifest.json"), seed)
        network.load_weights(weights | {"motion_head.motion_anchors": anchors})
        bundle = bundle_of(network)
        given = [{k: v for k, v in f.items() if not official.has_no_effect(k)} for f in inputs.make_inputs(seed)]
        frames = [official.frame_inputs(frame, bundle, f"golden {seed}: f{t}.in.") for t, frame in enumerate(given)]
        yield Case(f"golden {seed}", network, bundle, frames)


def load_script(path: Path) -> ModuleType:
    """A Python file of the golden data as a module: it makes weights, or inputs."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise SystemExit(f"{path} is missing; --golden names the folder of the golden data")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    faults = [f"frame {failure.frame}: {failure.gate}: {failure.reason}" for failure in report.gate_failures]
    for decisions in report.decisions:
        of_frame = [c for c in report.comparisons if c.frame == decisions.frame]
        faults += [f"frame {decisions.frame}: {fault}" for fault in sense_faults(decisions, of_frame)]
    return faults


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
    typer.run(main)
