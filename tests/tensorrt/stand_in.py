"""As much of TensorRT's Python module as a plugin touches, for tests without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import ModuleType, SimpleNamespace
from typing import Any


class TensorFormat(Enum):
    LINEAR = auto()
    HWC = auto()


class DataType(Enum):
    FLOAT = auto()
    HALF = auto()
    INT32 = auto()


class PluginFieldType(Enum):
    INT32 = auto()
    FLOAT32 = auto()
    CHAR = auto()


@dataclass(frozen=True)
class Tensor:
    """A tensor's description: of known shape, or as `desc` of one that may have open sizes."""

    dims: Sequence[int]
    type: DataType = DataType.FLOAT
    format: TensorFormat = TensorFormat.LINEAR

    @property
    def desc(self) -> Tensor:
        return self


@dataclass
class Registry:
    creators: list[tuple[Any, str]] = field(default_factory=list)

    def register_creator(self, creator: Any, namespace: str) -> bool:
        """As TensorRT does, refuse a name for the second time."""
        taken = any(known.name == creator.name for known, _ in self.creators)
        if not taken:
            self.creators.append((creator, namespace))
        return not taken


def stand_in_tensorrt() -> ModuleType:
    """A module of its own for every call, with an empty registry."""
    registry = Registry()
    module = ModuleType("stand_in_tensorrt")
    interfaces = ("IPluginV3", "IPluginV3OneCore", "IPluginV3OneBuild", "IPluginV3OneRuntime", "IPluginCreatorV3One")
    vars(module).update({name: type(name, (), {}) for name in interfaces})
    vars(module).update(
        DataType=DataType,
        TensorFormat=TensorFormat,
        PluginFieldType=PluginFieldType,
        PluginField=lambda name, data, type: SimpleNamespace(name=name, data=data, type=type),
        PluginFieldCollection=list,
        get_plugin_registry=lambda: registry,
    )
    return module
