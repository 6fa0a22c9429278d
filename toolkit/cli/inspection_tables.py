"""Inspection reports as tables on the terminal."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import singledispatch
from itertools import takewhile

from rich.table import Table
from rich.text import Text

from toolkit.cli.console import console, plain, print_note
from toolkit.inspection.bundle import BundleReport
from toolkit.inspection.difference import Difference
from toolkit.inspection.engine import EngineReport
from toolkit.inspection.onnx_model import OnnxReport, Tensor
from toolkit.inspection.weights import CheckpointReport, Share
from toolkit.text import LONGEST_LINE, in_words, mebibytes
from toolkit.weights.checkpoint import COUNTER

MAX_ROWS = 20
MAX_TEXT = 240


@singledispatch
def show(report: object) -> None:
    """Print a report. Long lists are cut; the JSON form has them whole."""
    raise TypeError(f"no tables for {type(report).__name__}")


@show.register
def _(report: CheckpointReport) -> None:
    heading(report.kind, report.path)
    precision = ", ".join(f"{count} {dtype}" for dtype, count in report.precision.items())
    facts = {"sha256": report.sha256, "entries": precision, "classes": report.classes or "not recorded"}
    table("", (), facts.items())
    for note in report.notes:
        print_note(note)
    table("training meta", (), report.meta.items())
    table("submodules", ("", "entries", "parameters", "MiB"), map(_share, report.submodules))
    table("a conversion leaves out", (), report.left_out.items())
    table("entries of no submodule", (), patterns(report.unclaimed))
    table("entries without effect", (), patterns(report.without_effect))
    odd: dict[tuple[str, str], list[str]] = {}
    for oddity in report.oddities:
        odd.setdefault((oddity.kind, oddity.note), []).append(oddity.key)
    table("oddities", ("", "", "entries", "such as"), ((*what, len(keys), keys[0]) for what, keys in odd.items()))


@show.register
def _(report: BundleReport) -> None:
    heading(f"bundle of {report.kind}", report.path)
    nested = {
        "meta": "training meta",
        "tools": "tool versions",
        "left_out": "left out of the conversion",
        "quantization": "quantization",
    }
    table("made from", (), ((key, value) for key, value in report.provenance.items() if key not in nested))
    for key, title in nested.items():
        values = report.provenance.get(key)
        table(title, (), values.items() if isinstance(values, Mapping) else ())
    table("submodules", ("", "plugin"), ((s.name, s.plugin) for s in report.submodules))
    table("weights", ("", "entries", "parameters", "MiB"), map(_share, report.shares))
    intact = {True: "", False: Text("differs from the one the conversion wrote", "red")}
    table("files", ("", "MiB", ""), ((f.name, mebibytes(f.bytes), intact[f.intact]) for f in report.files))
    table("capacities", (), report.capacities.items())
    table("conventions", (), report.conventions.items())
    table("", (), [("custom ops", report.custom_ops or "none"), ("results", report.results)])
    table("parity at conversion", (), report.parity.items())
    engines = ((e.file, f"{e.target} {e.version}", e.precision, e.capabilities) for e in report.engines)
    table("engines", ("", "built by", "precision", "for"), engines)


@show.register
def _(report: OnnxReport) -> None:
    heading("ONNX model", report.path)
    facts = {
        "producer": report.producer or "not recorded",
        "opsets": ", ".join(f"{domain} {version}" for domain, version in report.opsets.items()),
        "weights": f"{report.weights:,} values",
        "size": f"{mebibytes(report.bytes)} MiB without external files",
    }
    table("", (), facts.items())
    table("external files", (), ((n, "" if there else Text("missing", "red")) for n, there in report.external.items()))
    table("metadata", (), report.metadata.items())
    table("nodes by first part of their names", (), report.nodes.items())
    table("operators", (), report.operators.items())
    bodies = {True: "local function", False: "needs a plugin"}
    table("custom nodes", (), ((op, count, bodies[op in report.functions]) for op, count in report.custom.items()))
    table("inputs", (), map(_tensor, report.inputs))
    table("outputs", (), map(_tensor, report.outputs))


@show.register
def _(report: EngineReport) -> None:
    engine = report.sidecar
    heading("engine", report.path)
    if not report.intact:
        console.print(Text("the engine differs from the one that its sidecar describes", "red"))
    packed = "" if engine.unpacked is None else f", packed by gzip from {mebibytes(engine.unpacked)}"
    facts = {
        "built by": f"{engine.target} {engine.version} in {engine.seconds} s, at most {engine.peak_mib} MiB of memory",
        "compute capabilities": engine.capabilities,
        "precision": engine.precision,
        "custom ops": engine.custom_ops,
        "size": f"{mebibytes(engine.bytes)} MiB{packed}",
        "sha256": engine.sha256,
    }
    table("", (), facts.items())
    table("built from", ("", "sha256"), engine.onnx.items())
    table("compared with it", (), ((check,) for check in engine.checks))
    table("plugins to register", ("", "provided by", "nodes"), ((p.op, p.provider, p.nodes) for p in engine.plugins))
    table("layers of the network", (), engine.layers.items())
    for mode in ("input", "output"):
        tensors = (t for t in engine.tensors if t.mode == mode)
        table(f"{mode}s", (), ((t.name, f"{t.dtype}[{', '.join(map(str, t.shape))}]") for t in tensors))


def show_difference(difference: Difference) -> None:
    """Print how two checkpoints differ."""
    heading(f"against {difference.other}", f"{difference.identical} entries are identical")
    table("missing here", (), patterns(difference.missing))
    table("only here", (), patterns(difference.extra))
    table("of another shape", (), difference.reshaped.items())
    changed = ((c.key, "not finite" if c.difference is None else f"{c.difference:.3g}") for c in difference.changed)
    table("changed", ("", "max |difference|"), changed)


def heading(what: str, where: str) -> None:
    console.print(f"\n[bold]{plain(what)}[/]  {plain(where, LONGEST_LINE)}", soft_wrap=True)


def table(title: str, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print up to MAX_ROWS rows, the first column on the left and numbers on the right; nothing without rows."""
    listed = list(rows)
    if not listed:
        return
    grid = Table(box=None, show_header=bool(columns))
    for i in range(len(listed[0])):
        numeric = all(isinstance(row[i], int) or re.fullmatch(r"[\d.,]+", str(row[i])) for row in listed)
        grid.add_column(columns[i] if columns else "", justify="right" if numeric else "left", overflow="fold")
    for row in listed[:MAX_ROWS]:
        grid.add_row(*map(_cell, row))
    console.print(f"\n[bold]{plain(title)}[/]" if title else "")
    console.print(grid)
    if len(listed) > MAX_ROWS:
        console.print(f"  … and {len(listed) - MAX_ROWS} more; --json writes all")


def patterns(keys: Iterable[str]) -> list[tuple[str, int]]:
    """Keys that begin alike in one row, with their count."""
    return list(Counter(map(pattern, keys)).items())


def pattern(key: str) -> str:
    """Up to three parts of the key, and none from the first number on; counters of training steps are all alike."""
    if key.endswith(COUNTER):
        return f"*{COUNTER}"
    parts = key.split(".")
    common = list(takewhile(lambda part: not part.isdecimal(), parts))[:3]
    return ".".join(common) + ".*" * (len(common) < len(parts))


def _share(share: Share) -> tuple[object, ...]:
    return share.submodule, share.entries, f"{share.parameters:,}", mebibytes(share.bytes)


def _tensor(tensor: Tensor) -> tuple[object, ...]:
    return tensor.name, f"{tensor.dtype}[{', '.join(map(str, tensor.shape))}]"


def _cell(value: object) -> str | Text:
    """One line of plain text, or text that is styled already."""
    if isinstance(value, Text):
        return value
    return plain(in_words(value), MAX_TEXT)
