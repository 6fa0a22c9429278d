"""What ONNX Runtime's profiler says, by submodule: nodes are named SUBMODULE/…"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from onnx import ModelProto

from toolkit.errors import InputError
from toolkit.graph.functions import inline_functions

OTHER = "other nodes"
"""What the runtime itself adds, such as changes of layout between submodules."""
_NAME_END = "_kernel_time"
_FUSED = "fused "


def inline_named(model: ModelProto) -> ModelProto:
    """The model with its local functions inlined, as ONNX Runtime does it, but their nodes named after their submodule.

    A function's nodes have no names of their own; they follow, in the model's order, other nodes of their submodule.
    """
    inlined = inline_functions(model)
    submodule = OTHER
    for number, node in enumerate(inlined.graph.node):
        if "/" in node.name:
            submodule = node.name.partition("/")[0]
        else:
            node.name = f"{submodule}/inlined_{number}"
    return inlined


def submodule_seconds(profile: Path, submodules: Collection[str]) -> list[dict[str, float]]:
    """For each run in a profile, the seconds that each submodule's nodes took.

    Nodes of different submodules can take turns, so these are sums over nodes; other time within a run is the
    runtime's own, and in none of them. Raises InputError for a profile that ONNX Runtime could not write to its end,
    of which it says nothing.
    """
    try:
        events = json.loads(profile.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"cannot write {profile}: it ends too early; free some disk space") from error
    runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
    nodes = sorted((e["ts"], e["name"], e["dur"]) for e in events if e["cat"] == "Node" and _is_kernel(e["name"]))
    seconds = [dict.fromkeys(submodules, 0.0) for _ in runs]
    number = 0
    for start, name, microseconds in nodes:
        while start > runs[number][1]:
            number += 1
        owner = _owner(name)
        key = owner if owner in submodules else OTHER
        seconds[number][key] = seconds[number].get(key, 0.0) + microseconds / 1e6
    return seconds


def _is_kernel(name: str) -> bool:
    return name.endswith(_NAME_END)


def _owner(name: str) -> str:
    return name.removeprefix(_FUSED).partition("/")[0]
