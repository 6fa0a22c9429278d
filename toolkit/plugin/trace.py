"""One line for every hook call: for the author of a plugin that does not do what it should."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from toolkit.text import quoted

MAX_NAMES = 8


def attach_trace(manager: pluggy.PluginManager, write: Callable[[str], None]) -> None:
    """Give `write` a line after each hook call: the hook, its arguments, who answered, what, and in which time."""
    started: list[float] = []

    def before(hook: str, implementations: Sequence[pluggy.HookImpl], arguments: Mapping[str, Any]) -> None:
        started.append(time.perf_counter())

    def after(
        outcome: pluggy.Result[Any],
        hook: str,
        implementations: Sequence[pluggy.HookImpl],
        arguments: Mapping[str, Any],
    ) -> None:
        milliseconds = 1000 * (time.perf_counter() - started.pop())
        given = ", ".join(f"{name}={summary(value)}" for name, value in arguments.items())
        plugins = ", ".join(implementation.plugin_name for implementation in implementations)
        if outcome.exception is None:
            result = ", ".join(map(summary, outcome.get_result())) or "no answer"
        else:
            result = repr(outcome.exception)
        write(f"{hook}({given}) of {plugins}: {result} [{milliseconds:.1f} ms]")

    manager.add_hookcall_monitoring(before, after)


def summary(value: Any) -> str:
    """A value in a few words: names where it has them, sizes where it has them, else its type."""
    if value is None or isinstance(value, str | int | float):
        return quoted(value)
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    if isinstance(value, Sequence):
        more = f", … {len(value) - MAX_NAMES} more" if len(value) > MAX_NAMES else ""
        return f"[{', '.join(map(summary, value[:MAX_NAMES]))}{more}]"
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else type(value).__name__
