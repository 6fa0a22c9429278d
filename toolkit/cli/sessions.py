"""The sessions that commands can choose from, and the precision of those that have a choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from toolkit.bundle import Bundle
from toolkit.cli.console import print_warning
from toolkit.engines.session import Session
from toolkit.engines.session_kind import SessionKind, SessionOptions
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.text import quoted

DEFAULT_SESSION = "onnxruntime"
SessionOption = Annotated[str, typer.Option(metavar="NAME", help="What runs the network: {sessions}.")]
PRECISIONS = ", ".join(precision.value for precision in Precision)
PrecisionOption = Annotated[
    Precision, typer.Option(metavar="TYPE", help=f"What --session cuda computes products in: {PRECISIONS}.")
]


def session_kind(plugins: PluginManager, name: str, option: str = "--session") -> SessionKind:
    """The kind of session of this name. Raises InputError, which begins with the command's `option`, for no such."""
    kinds = {kind.name: kind for kind in plugins.sessions()}
    if name not in kinds:
        raise InputError(f"{option} names {quoted(name)}; known are {', '.join(kinds)}")
    return kinds[name]


def require_precision(
    precision: Precision, names: Sequence[str], plugins: PluginManager, option: str = "--session"
) -> None:
    """Raise InputError if none of these sessions can be told to compute in a precision, or one is unknown."""
    kinds = [session_kind(plugins, name, option) for name in names]
    if precision is Precision.FP32 or any(precision in kind.precisions for kind in kinds):
        return
    able = " or ".join(kind.name for kind in plugins.sessions() if precision in kind.precisions)
    remedy = f"use --session {able}" if able else "choose another precision"
    engines = [kind.name for kind in kinds if kind.engine_precision is not None]
    if engines:
        raise InputError(
            f"--precision {precision.value} is of no use with --session {engines[0]}, whose engine has the precision "
            f"it was built with; build another engine, or {remedy}"
        )
    raise InputError(
        f"--precision {precision.value} is of no use with --session {' and '.join(names)}, which computes in FP32; "
        f"{remedy}, or leave the precision out"
    )


def used_precision(bundle: Bundle, name: str, precision: Precision, plugins: PluginManager) -> str:
    """What to say of a session's precision: that of the engine or ONNX model if it runs one, else what was asked."""
    kind = session_kind(plugins, name)
    if kind.engine_precision is not None:
        return kind.engine_precision(bundle)
    return bundle.precision if kind.runs_onnx else precision.value


def open_session(
    bundle: Bundle,
    name: str,
    plugins: PluginManager,
    *,
    precision: Precision = Precision.FP32,
    wires: bool = False,
    threads: int | None = None,
) -> Session:
    """A session over a bundle; with `wires` it shows the tensors between submodules too, if its kind can.

    Raises InputError for an unknown one, for a `precision` that it cannot have, and as `SessionKind.open` does.
    """
    require_precision(precision, (name,), plugins)
    return session_kind(plugins, name).open(bundle, plugins, SessionOptions(precision, wires, threads, print_warning))
