"""A plugin: the session `emulated` computes on the CPU what `--session cuda` computes on a GPU, in each precision.

    uniad-toolkit evaluate bundle --data nuscenes:drive -o evaluation --plugin benchmarks/emulated_session.py \\
        --session emulated --precision fp16

Slow, and for figures alone: it tells what rounding costs where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.engines.session import Session
from toolkit.engines.session_kind import SessionKind, SessionOptions
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision


def open_emulated(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Session:
    """The network as the GPU session compiles it, with products rounded as there."""
    import torch

    from benchmarks.gpu_emulation import EmulatedSession

    bundle.require_intact("weights")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    return EmulatedSession.of_bundle(bundle, plugins, options.precision, options.warn)


def kept_by_emulated(bundle: Bundle, plugins: PluginManager, options: SessionOptions) -> Path:
    """The network rewritten for the CPU."""
    from benchmarks.gpu_emulation import CPU
    from toolkit.engines.gpu.kept import entry_of

    return entry_of(bundle, plugins, options.precision, CPU).folder


@hookimpl
def uniad_sessions() -> Sequence[SessionKind]:
    """The GPU session on the CPU."""
    return (SessionKind("emulated", open_emulated, precisions=tuple(Precision), kept=kept_by_emulated),)
