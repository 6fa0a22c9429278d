"""What a graph pass is: a named, reasoned edit of an onnx-graphsurgeon graph that reports what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Change:
    """One rewrite: the node it made, changed or removed, and what happened in a few words."""

    node: str
    what: str


@dataclass(frozen=True)
class NearMiss:
    """A place that resembles what a pass looks for, why the pass left it alone, and, if known, what to do about it."""

    node: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one pass did to one graph."""

    changes: tuple[Change, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()


@dataclass(frozen=True)
class GraphPass:
    """An edit of a graph.

    `apply` edits the graph in place and reports; the pipeline cleans up, sorts, validates and stamps provenance.
    Custom ops are plain nodes of domain ``uniad`` while passes run: the pipeline takes their local functions away
    before and attaches fresh ones after. `reason` says in one sentence why the pass exists. A pass with `default` off
    runs only when it is asked for by name. `tolerance` bounds the change of any output, relative to the output's
    largest magnitude, that the pipeline accepts before it refuses the pass; infinite where no comparison is possible,
    because inputs or outputs change, or nodes appear that ONNX Runtime does not have. A pass of infinite tolerance is
    `measured` if outputs can be compared all the same: then how far each deviates is told, and refuses nothing.
    """

    name: str
    reason: str
    apply: Callable[[gs.Graph], Outcome]
    default: bool = True
    tolerance: float = 1e-4
    measured: bool = False
