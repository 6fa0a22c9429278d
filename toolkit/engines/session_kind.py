"""What a plugin says about a kind of session: its name, what it computes in, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.precision import Precision

if TYPE_CHECKING:
    from toolkit.bundle import Bundle
    from toolkit.engines.session import Session
    from toolkit.plugin.manager import PluginManager


@dataclass(frozen=True)
class SessionOptions:
    """How a session is to run, as far as its kind has a choice.

    With `wires` it shows the tensors between submodules too. On a CPU it takes `threads`, by default as many as the
    process has cores. `warn` is told in one line of what costs time alone.
    """

    precision: Precision = Precision.FP32
    wires: bool = False
    threads: int | None = None
    warn: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class SessionKind:
    """A way to run a bundle, called `name` on the command line.

    `open` raises InputError if the files that it reads are not those of the conversion, or if the machine lacks what
    the session needs. It is asked for no other precision than one of `precisions`. A session that runs an engine has no
    choice: `engine_precision` tells what the engine was built with. Nor has one that `runs_onnx`, the bundle's ONNX
    model as it is (`Bundle.precision`). `gpus` are those that each session takes. `kept` is the folder in which
    one keeps what takes long to make, from its first frame on; it raises InputError if nothing can be kept.
    """

    name: str
    open: Callable[[Bundle, PluginManager, SessionOptions], Session]
    precisions: tuple[Precision, ...] = (Precision.FP32,)
    engine_precision: Callable[[Bundle], str] | None = None
    gpus: int = 0
    runs_onnx: bool = False
    kept: Callable[[Bundle, PluginManager, SessionOptions], Path] | None = None
