"""All parts of a report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.report.agreement import describe_agreement
from toolkit.report.contents import PageContents
from toolkit.report.conversion import check_files, describe_conversion, describe_passes
from toolkit.report.engines import describe_engines
from toolkit.report.evaluation import describe_evaluation
from toolkit.report.quantization import check_quantization, describe_quantization
from toolkit.report.run import describe_run
from toolkit.specs import Submodule
from toolkit.versions import PACKAGE, installed_version


def collect_report(
    bundle: Bundle,
    submodules: Sequence[Submodule],
    *,
    results: Path | None = None,
    verification: Path | None = None,
    evaluation: Path | None = None,
    rewritten: Sequence[Path] = (),
) -> PageContents:
    """Collect what is known about a bundle. `submodules` tell whose the weights are.

    `results` is a folder of `run`, `verification` a file of `verify --json`, `evaluation` what `evaluate` wrote,
    `rewritten` are models of `rewrite`.
    Raises InputError for one that is missing, damaged, or about another bundle.
    """
    run = describe_run(bundle, results) if results else None
    driving = describe_evaluation(bundle, evaluation) if evaluation else None
    conversion = describe_conversion(bundle, submodules)
    agreement = describe_agreement(bundle, verification)
    engines, engine_warnings = describe_engines(bundle)
    return PageContents(
        title=str(bundle.provenance.get("checkpoint") or bundle.path.absolute().name),
        bundle=bundle.path.absolute().name,
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        toolkit=installed_version(PACKAGE) or "unknown",
        checks=(*agreement.checks, *check_quantization(bundle), check_files(conversion)),
        conversion=conversion,
        passes=describe_passes(bundle, rewritten),
        agreement=agreement,
        engines=engines,
        engine_warnings=engine_warnings,
        run=run,
        driving=driving,
        quantization=describe_quantization(bundle),
    )
