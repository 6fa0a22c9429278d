"""Engines that were built from a bundle."""

from __future__ import annotations

from toolkit.bundle import Bundle, EngineRecord
from toolkit.errors import InputError
from toolkit.inspection.engine import EngineReport, inspect_engine
from toolkit.report.contents import Table
from toolkit.text import mebibytes


def describe_engines(bundle: Bundle) -> tuple[Table, tuple[str, ...]]:
    """The engines that a bundle records, and warnings about those that are not as they were built."""
    rows, warnings = [], []
    for record in bundle.engines:
        try:
            engine = inspect_engine(bundle.path / record.file)
        except InputError as error:
            warnings.append(str(error))
            rows.append((*_recorded(record), "", "", "", record.sha256))
            continue
        rows.append((*_recorded(record), *_built(engine), record.sha256))
        if not engine.intact or engine.sidecar.sha256 != record.sha256:
            warnings.append(f"{record.file} is not the engine that the bundle records; build it again")
    columns = ("file", "built by", "precision", "compute capabilities", "MiB", "build s", "plugin nodes", "sha256")
    return Table("Engines", columns, tuple(rows), numeric=frozenset({4, 5, 6})), tuple(warnings)


def _recorded(record: EngineRecord) -> tuple[str, ...]:
    return record.file, f"{record.target} {record.version}", record.precision, ", ".join(record.capabilities)


def _built(engine: EngineReport) -> tuple[str, ...]:
    sidecar = engine.sidecar
    return mebibytes(sidecar.bytes), f"{sidecar.seconds:.0f}", str(sum(plugin.nodes for plugin in sidecar.plugins))
