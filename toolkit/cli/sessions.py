"""The sessions that commands can choose from."""

from __future__ import annotations

from enum import Enum

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.plugin_manager import PluginManager


class SessionKind(Enum):
    """Names on the command line."""

    ONNXRUNTIME = "onnxruntime"
    TORCH = "torch"


def open_session(bundle: Bundle, kind: SessionKind, plugins: PluginManager, *, wires: bool = False) -> Session:
    """A session over a bundle; with `wires` it shows the tensors between submodules too, if its kind can.

    Raises InputError if the files that it reads are not those of the conversion.
    """
    bundle.require_intact("weights" if kind is SessionKind.TORCH else "functional")
    if kind is SessionKind.TORCH:
        from toolkit.engines.torch import TorchSession

        return TorchSession.of_bundle(bundle, plugins)
    from toolkit.engines.onnxruntime import OnnxRuntimeSession

    return OnnxRuntimeSession(bundle, wires=bundle.wires if wires else ())
