"""Every hook of the toolkit. A plugin is a module or object with functions of these names marked `@hookimpl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy
import typer

from toolkit.specs import Submodule

if TYPE_CHECKING:
    import torch

    from toolkit.config.model import ModelConfig
    from toolkit.data.source_kind import FrameSourceKind
    from toolkit.engines.session_kind import SessionKind
    from toolkit.evaluation.metric import Metric
    from toolkit.graph.graph_pass import GraphPass
    from toolkit.ops.spec import CustomOp

PROJECT = "uniad_toolkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def uniad_submodules() -> Sequence[Submodule]:
    """Parts of the network this plugin contributes; `Submodule.replaces` stands in for another one."""
    return ()


@hookspec
def uniad_custom_ops() -> Sequence[CustomOp]:
    """Custom operators that submodules of this plugin use."""
    return ()


@hookspec
def uniad_graph_passes() -> Sequence[GraphPass]:
    """Rewrites of ONNX graphs; the default ones run in the order in which plugins load."""
    return ()


@hookspec
def uniad_sessions() -> Sequence[SessionKind]:
    """Ways to run a bundle, for `--session`."""
    return ()


@hookspec
def uniad_frame_sources() -> Sequence[FrameSourceKind]:
    """Places that frames come from, by the prefix of their address."""
    return ()


@hookspec
def uniad_metrics() -> Sequence[Metric]:
    """Ways to judge results, for `evaluate`; `Metric.replaces` stands in for another one."""
    return ()


@hookspec
def uniad_checkpoint_filter(
    state_dict: Mapping[str, torch.Tensor], config: ModelConfig
) -> Mapping[str, torch.Tensor] | None:
    """Turn the checkpoint's entries into those that the network expects, or return None to leave them as they are.

    For a foreign layout, or for the entries of a replaced submodule. Filters apply in the order in which plugins load.
    """


@hookspec
def uniad_commands(app: typer.Typer) -> None:
    """Add commands to the command line."""


def hook_questions() -> dict[str, str]:
    """What each hook asks for, in the first line of its description, by name."""
    functions = {name: item for name, item in globals().items() if hasattr(item, f"{PROJECT}_spec")}
    return {name: (function.__doc__ or "").partition("\n")[0] for name, function in functions.items()}
