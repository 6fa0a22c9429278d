"""How a bundle was quantized, as tables on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from toolkit.cli.console import console, plain, print_line
from toolkit.quantization.calibration_file import Calibration
from toolkit.quantization.gates import Finding, severity_text, worst
from toolkit.quantization.record import QuantizationRecord

MOST_CLIPPED = 8
"""Tensors that are shown, those with most values beyond their range first."""


def show_calibration(calibration: Calibration) -> None:
    """What the ranges come from, and the tensors of which most is clipped or that have the farthest outliers."""
    source = calibration.source
    print_line(
        f"ranges of {len(calibration.ranges)} tensors by {source.method.value}, from {source.frames} frames of "
        f"{source.scenes} scenes"
    )
    for rows in source.rows:
        print_line(f"{rows.count}: {rows.least} to {rows.most} of {rows.capacity} rows in use")
    ranked = sorted(calibration.ranges.items(), key=lambda item: (-item[1].beyond, -item[1].outliers))
    table = Table("tensor", "least", "largest", "range", "clipped", "outliers", box=None)
    for name, found in ranked[:MOST_CLIPPED]:
        numbers = (f"{found.minimum:.4g}", f"{found.maximum:.4g}", f"± {found.threshold:.4g}", f"{found.beyond:.3%}")
        table.add_row(plain(name), *numbers, f"{found.outliers:.3g} x")
    console.print(table)


def show_record(record: QuantizationRecord) -> None:
    """What single submodules and layer classes do, what the search kept, and what gates say in the end."""
    table = Table("quantized", "layers", "error / bound", "worst gate", title="Sensitivity")
    for effect in sorted(record.effects, key=lambda effect: -effect.severity):
        table.add_row(plain(effect.unit), f"{effect.share:.0%}", *_worst(effect.findings))
    table.add_section()
    for step in record.steps:
        name = f"… without {step.kept}" if step.kept else "all layers"
        table.add_row(plain(name), f"{step.share:.0%}", *_worst(step.findings))
    console.print(table)
    for reason, count in Counter(record.kept.values()).most_common():
        print_line(f"kept, {count} of the layers: {reason}")
    layers = len(record.layers)
    print_line(f"{layers} of {layers + len(record.kept)} layers compute in {record.source.mode.value}")
    console.print(gate_table((*record.gates, *record.driving)))


def gate_table(findings: Iterable[Finding]) -> Table:
    """Each gate with what was measured."""
    table = Table("gate", "error / bound", "", "", box=None)
    for finding in findings:
        verdict = Text("holds", "green") if finding.holds else Text("fails", "red")
        table.add_row(plain(finding.subject), severity_text(finding), plain(finding.text), verdict)
    return table


def _worst(findings: tuple[Finding, ...]) -> tuple[str, str]:
    found = worst(findings)
    return severity_text(found), plain(str(found))
