"""How a bundle was quantized, if it was: what was measured, what was kept and why, and which gates hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from toolkit.bundle import Bundle
from toolkit.quantization.gates import Finding, severity_text, worst
from toolkit.quantization.record import PLOT, QuantizationRecord
from toolkit.report.contents import Check, Quantization, Table
from toolkit.report.pictures import page_picture
from toolkit.report.texts import facts_of


def describe_quantization(bundle: Bundle) -> Quantization | None:
    """What the bundle's record says; None if it is not quantized. Raises InputError for a damaged record or plot."""
    record = QuantizationRecord.read(bundle)
    if record is None:
        return None
    tried = [(e.unit, e.share, e.findings) for e in sorted(record.effects, key=lambda e: -e.severity)]
    tried += [(f"without {step.kept}" if step.kept else "all", step.share, step.findings) for step in record.steps]
    reasons = Counter(record.kept.values()).most_common()
    rows = tuple((name, f"{share:.0%}", severity_text(worst(found)), str(worst(found))) for name, share, found in tried)
    return Quantization(
        facts=facts_of(bundle.quantization),
        effects=Table("What was quantized, and what it does", ("layers", "share", "error / bound", "worst gate"), rows,
                      numeric=frozenset({1, 2})),
        kept=Table("What could have 8 bits and has not", ("layers", "reason"),
                   tuple((str(count), reason) for reason, count in reasons), numeric=frozenset({0})),
        gates=_gate_table((*record.gates, *record.driving)),
        plot=page_picture(bundle.path / PLOT, PLOT, "error over the share of layers in 8 bits", "quantize again"),
    )  # fmt: skip


def check_quantization(bundle: Bundle) -> tuple[Check, ...]:
    """Whether gates held when the bundle was quantized; nothing for one that is not."""
    record = QuantizationRecord.read(bundle)
    if record is None:
        return ()
    findings = (*record.gates, *record.driving)
    most = worst(findings)
    finding = f"{len(findings)} gates over {record.frames} frames, the nearest to its bound: {most}"
    return (Check(f"quantization, {bundle.precision}", most.holds, finding),)


def _gate_table(findings: Iterable[Finding]) -> Table:
    listed = tuple(findings)
    return Table(
        "Gates beside FP32, each with its own state fed back",
        ("gate", "error / bound", "measured"),
        tuple((finding.subject, severity_text(finding), finding.text) for finding in listed),
        numeric=frozenset({1}),
        marked=frozenset(i for i, finding in enumerate(listed) if not finding.holds),
    )
