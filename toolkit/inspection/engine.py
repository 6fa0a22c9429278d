"""What an engine is, as its sidecar tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.engines.tensorrt.sidecar import Sidecar
from toolkit.storage.files import is_intact
from toolkit.storage.regular_file import readable_file


@dataclass(frozen=True)
class EngineReport:
    """A sidecar, and whether the engine beside it is the one that it was written with."""

    path: str
    intact: bool
    sidecar: Sidecar


def inspect_engine(path: Path) -> EngineReport:
    """Describe an engine. Raises InputError if it, or its sidecar, is missing or cannot be read."""
    path = readable_file(path, "engine")
    sidecar = Sidecar.read(path)
    return EngineReport(str(path), is_intact(path, sidecar.sha256, sidecar.bytes), sidecar)
