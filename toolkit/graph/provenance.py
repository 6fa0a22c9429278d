"""Which pass made a node, and which passes a model went through, recorded in the model itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto

from toolkit.graph.graph_pass import Outcome
from toolkit.storage.json_file import parse_json
from toolkit.versions import PACKAGE, installed_version

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

NODE_KEY, MODEL_KEY = "uniad.pass", "uniad.passes"
"""Metadata of a node: the pass that made it. Metadata of a model: JSON, an entry for each pass that changed it."""


@dataclass(frozen=True)
class PassRun:
    """What a pass did to a model; nodes are counted in the outermost graph."""

    name: str
    outcome: Outcome
    nodes_before: int
    nodes_after: int


def stamp_nodes(nodes: Sequence[gs.Node], graph: gs.Graph, pass_name: str) -> None:
    """Record the pass in the nodes of a graph that were not among `nodes`."""
    known = {id(node) for node in nodes}
    for node in every_node(graph):
        if id(node) not in known:
            node.metadata_props = {**getattr(node, "metadata_props", {}), NODE_KEY: pass_name}


def every_node(graph: gs.Graph) -> Iterator[gs.Node]:
    """Nodes of a graph and of its inner graphs."""
    yield from graph.nodes
    for inner in graph.subgraphs(recursive=True):
        yield from inner.nodes


def explanation(runs: Sequence[PassRun]) -> dict[str, object]:
    """What each pass changed and left alone, of values that JSON has; a remedy only where there is one."""
    return {
        "passes": [
            {
                "pass": run.name,
                "nodes_before": run.nodes_before,
                "nodes_after": run.nodes_after,
                **asdict(run.outcome, dict_factory=lambda items: {k: v for k, v in items if (k, v) != ("remedy", "")}),
            }
            for run in runs
        ]
    }


def record_passes(model: ModelProto, runs: Sequence[PassRun]) -> None:
    """Add the passes that changed a model to its metadata, after those of earlier rewrites."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    entries = [
        {
            "pass": run.name,
            "changes": len(run.outcome.changes),
            "nodes_before": run.nodes_before,
            "nodes_after": run.nodes_after,
            "version": installed_version(PACKAGE) or "unknown",
        }
        for run in runs
        if run.outcome.changes
    ]
    if entries:
        metadata[MODEL_KEY] = json.dumps([*earlier_passes(metadata.get(MODEL_KEY, "[]")), *entries])
        onnx.helper.set_model_props(model, metadata)


def earlier_passes(recorded: str) -> list[object]:
    """The entries of earlier rewrites; none if the metadata are not ours."""
    try:
        entries = parse_json(recorded.encode())
    except ValueError:
        return []
    return entries if isinstance(entries, list) else []
