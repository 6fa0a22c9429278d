"""Which of the passes that plugins offer are to run."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from toolkit.errors import InputError
from toolkit.graph.graph_pass import GraphPass


def select_passes(
    offered: Sequence[GraphPass], named: Sequence[str] = (), skipped: Sequence[str] = ()
) -> tuple[GraphPass, ...]:
    """The named passes in the order in which they are named, else the default ones; without those skipped.

    Raises InputError for a name that no pass has.
    """
    by_name = {graph_pass.name: graph_pass for graph_pass in offered}
    for name in (*named, *skipped):
        if name not in by_name:
            raise InputError(unknown_pass(name, list(by_name)))
    chosen = [by_name[name] for name in named] if named else [p for p in offered if p.default]
    return tuple(graph_pass for graph_pass in chosen if graph_pass.name not in skipped)


def explained_names(names: Sequence[str], run: Sequence[str]) -> frozenset[str]:
    """The names to explain, all if none is given. Raises InputError for one of no pass among those that `run`."""
    for name in names:
        if name not in run:
            raise InputError(f"--explain-pass names {name!r}, which does not run here; name one of {', '.join(run)}")
    return frozenset(names or run)


def unknown_pass(name: str, known: Sequence[str]) -> str:
    """The message for a name that no pass has, with the nearest that one has."""
    nearest = get_close_matches(name, known, n=1)
    advice = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return f"there is no graph pass {name!r}; {advice} (`uniad-toolkit rewrite --list` describes them)"
