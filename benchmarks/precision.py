"""How far a bundle's network in FP16 or BF16 departs from FP32, output by output, with the state fed back.

python -m benchmarks.precision BUNDLE [--inputs inputs.npz] [--precision bf16] [--rounded] [--keep-fp32 PATTERN …]

`inputs.npz` is as `uniad-toolkit replay` takes it; made-up frames otherwise. Both run in ONNX Runtime on the CPU;
`--rounded` rounds after every node (toolkit/graph/precision/simulation.py). BF16 is always rounded.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import onnx_graphsurgeon as gs
from rich.console import Console
from rich.table import Table

from toolkit.bundle import Bundle
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.graph.graph_pass import GraphPass, Outcome
from toolkit.graph.model_file import read_model, write_model
from toolkit.graph.opset import raise_opset
from toolkit.graph.pipeline import rewrite
from toolkit.graph.precision.policy import POLICIES, PrecisionPolicy
from toolkit.graph.precision.precision_pass import precision_pass
from toolkit.graph.precision.simulation import simulate_rounding
from toolkit.plugin.manager import PluginManager
from toolkit.verification.comparison import Comparison, compare
from toolkit.verification.decisions import decide
from toolkit.verification.gates import check_gates
from toolkit.verification.observation import Observer
from toolkit.verification.policy import FP32
from toolkit.verification.sequence import official_sequence, probe_sequence


def main() -> None:
    """Run both networks side by side and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--precision", choices=POLICIES, default="fp16")
    parser.add_argument("--rounded", action="store_true")
    parser.add_argument("--keep-fp32", nargs="*", default=[])
    options = parser.parse_args()
    bundle, console = Bundle.read(options.bundle), Console()
    policy = dataclasses.replace(POLICIES[options.precision], keep=tuple(options.keep_fp32))
    sequence = official_sequence(bundle, options.inputs, None) if options.inputs else probe_sequence(bundle, None)
    found: dict[str, list[Comparison]] = {}
    with tempfile.TemporaryDirectory() as folder:
        candidate = reduced_bundle(bundle, policy, Path(folder), rounded=options.rounded or options.precision == "bf16")
        sessions = [OnnxRuntimeSession(b) for b in (bundle, candidate)]
        observers = [Observer(bundle, session, sequence.start) for session in sessions]
        for number, frame in enumerate(sequence.frames):
            wanted, actual = (observer.step(frame).outputs for observer in observers)
            comparisons = compare(bundle, FP32, number, wanted, actual)
            decisions = decide(number, bundle.outputs, wanted, actual)
            console.print(number, decisions.tracks, decisions.occupancy, decisions.plan, sep="\n  ")
            for failure in check_gates(decisions, comparisons, (wanted, actual), ("fp32", policy.name)):
                console.print(f"  [red]{failure.gate}: {failure.reason}[/]")
            for comparison in comparisons:
                found.setdefault(comparison.tensor, []).append(comparison)
    table = Table("output", "relative error, by frame", "largest error")
    for tensor, rows in found.items():
        errors = " ".join(f"{c.errors.norm:.1e}" for c in rows)
        table.add_row(tensor, errors, f"{max(c.errors.largest for c in rows):.1e}")
    console.print(table)


def reduced_bundle(bundle: Bundle, policy: PrecisionPolicy, folder: Path, *, rounded: bool) -> Bundle:
    """The bundle with its network in reduced precision, written to a folder."""

    def simulate(graph: gs.Graph) -> Outcome:
        simulate_rounding(graph, policy.dtype)
        return Outcome()

    plugins = PluginManager.load()
    ops = plugins.custom_ops()
    passes = [precision_pass(policy.with_exceptions(plugins.submodules()))]
    passes += [GraphPass("rounded", "Rounds where the typed model would.", simulate)] if rounded else []
    model = raise_opset(read_model(bundle.onnx), policy.opset, ops)
    write_model(rewrite(model, passes, ops, check=False).model, folder / "reduced.onnx")
    return dataclasses.replace(bundle, path=folder, files={"functional": "reduced.onnx"})


if __name__ == "__main__":
    main()
