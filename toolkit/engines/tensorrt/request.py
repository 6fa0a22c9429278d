"""What the process that builds an engine is asked for, as it goes there in JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.settings import BuildSettings, CustomOps, Precision, ShapeRange
from toolkit.engines.tensorrt.sidecar import sidecar_path
from toolkit.graph.model_file import weights_path


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
        values = json.loads(text)
        settings = values["settings"]
        return cls(
            model=Path(values["model"]),
            engine=Path(values["engine"]),
            settings=BuildSettings(
                **settings
                | {
                    "target": Target(settings["target"]),
                    "precision": Precision(settings["precision"]),
                    "keep_fp32": tuple(settings["keep_fp32"]),
                    "custom_ops": CustomOps(settings["custom_ops"]),
                    "capabilities": tuple(settings["capabilities"]),
                    "profiles": {name: _range(value) for name, value in settings["profiles"].items()},
                    "timing_cache": _optional_path(settings["timing_cache"]),
                }
            ),
            plugin_files=tuple(map(Path, values["plugin_files"])),
            disabled=tuple(values["disabled"]),
            kept_model=_optional_path(values["kept_model"]),
        )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else str(value)


def _range(shapes: Mapping[str, list[int]]) -> ShapeRange:
    return ShapeRange(**{name: tuple(shape) for name, shape in shapes.items()})


def _optional_path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
