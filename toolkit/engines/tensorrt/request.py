"""What the process that builds an engine is asked for, as it goes there in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from toolkit.engines.tensorrt.settings import BuildSettings
from toolkit.engines.tensorrt.sidecar import sidecar_path
from toolkit.graph.model_file import weights_path
from toolkit.storage.typed import decode

ENGINE = "engine"
"""The name of what is built while it is in a folder of its own; its sidecar is beside it."""


@dataclass(frozen=True)
class BuildRequest:
    """An engine to build: of which model, how, and where to.

    `plugin_files` and `disabled` choose the plugins whose custom ops the model may use. `kept_model` is where the model
    that TensorRT reads is left, if anywhere.
    """

    model: Path
    engine: Path
    settings: BuildSettings
    plugin_files: tuple[Path, ...] = ()
    disabled: tuple[str, ...] = ()
    kept_model: Path | None = None

    def outputs(self) -> tuple[Path, ...]:
        """The files that the build writes."""
        files = [self.engine, sidecar_path(self.engine)]
        if self.settings.timing_cache is not None:
            files.append(self.settings.timing_cache)
        if self.kept_model is not None:
            files += (self.kept_model, weights_path(self.kept_model))
        return tuple(files)

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=_plain)

    @classmethod
    def from_json(cls, text: str) -> BuildRequest:
        """The request that `to_json` wrote."""
        return decode(cls, json.loads(text))


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)
