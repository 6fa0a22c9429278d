"""Typed questions to all plugins: built-in modules, installed entry points, and files given by the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from toolkit.errors import InputError
from toolkit.plugin.registry import PluginRegistry, logger
from toolkit.plugin.sources import import_builtin, installed_plugins
from toolkit.specs import Submodule
from toolkit.versions import PACKAGE, package_version

if TYPE_CHECKING:
    import torch

    from toolkit.config.model import ModelConfig
    from toolkit.data.source_kind import FrameSourceKind
    from toolkit.engines.session_kind import SessionKind
    from toolkit.evaluation.metric import Metric
    from toolkit.graph.graph_pass import GraphPass
    from toolkit.ops.spec import CustomOp

BUILTIN_PLUGINS = (
    "custom_ops.plugin",
    "plugins.image_encoder.plugin",
    "plugins.bev_encoder.plugin",
    "plugins.tracking.plugin",
    "plugins.map_segmentation.plugin",
    "plugins.motion.plugin",
    "plugins.occupancy.plugin",
    "plugins.planning.plugin",
    "toolkit.graph.plugin",
    "toolkit.engines.plugin",
    "toolkit.data.plugin",
    "toolkit.cli.config",
    "toolkit.cli.convert",
    "toolkit.cli.build",
    "toolkit.cli.prepare",
    "toolkit.cli.rewrite",
    "toolkit.cli.quantize",
    "toolkit.cli.synthesize",
    "toolkit.cli.run",
    "toolkit.cli.warm",
    "toolkit.cli.replay",
    "toolkit.cli.evaluate",
    "toolkit.cli.visualize",
    "toolkit.cli.verify",
    "toolkit.cli.bridge",
    "toolkit.cli.benchmark",
    "toolkit.cli.report",
    "toolkit.cli.demo",
    "toolkit.cli.plugins",
    "toolkit.cli.doctor",
    "toolkit.cli.inspect",
    "toolkit.cli.init_stage1",
    "toolkit.cli.train",
    "toolkit.cli.pseudo_weights",
    "toolkit.cli.kernels",
    "toolkit.cli.new_op",
    "toolkit.cli.new_pass",
)


class PluginManager(PluginRegistry):
    """What the toolkit asks its plugins for."""

    @classmethod
    def load(
        cls,
        files: Sequence[Path] = (),
        builtin: Sequence[str] = BUILTIN_PLUGINS,
        *,
        disabled: Sequence[str] = (),
        strict: bool = False,
        warn: Callable[[str], None] = logger.warning,
        trace: Callable[[str], None] | None = None,
    ) -> PluginManager:
        """Register built-in plugins, entry points of group ``uniad_toolkit`` and plugin files, except `disabled` ones.

        Raises InputError for a plugin that cannot be imported or implements a hook that does not exist (an entry point
        only if `strict`), for two plugins of one name, and for a disabled one that does not exist.
        """
        manager = cls(strict=strict, warn=warn, trace=trace)
        installed = {entry_point.name: entry_point for entry_point in installed_plugins()}
        known = [*builtin, *installed]
        for name in disabled:
            if name not in known:
                raise InputError(f"there is no plugin {name!r} to disable; known: {', '.join(known)}")
            manager.disable(name)
        for name in builtin:
            if name not in disabled:
                manager.register(import_builtin(name), name, package_version(PACKAGE))
        for name, entry_point in installed.items():
            if name not in disabled:
                manager.register_installed(entry_point)
        for path in dict.fromkeys(files):
            manager.register_file(path)
        return manager

    def offered_submodules(self) -> tuple[tuple[str, Submodule], ...]:
        """Every submodule with the name of its plugin, replaced ones included."""
        return self.offers("uniad_submodules", Submodule)

    def submodules(self) -> tuple[Submodule, ...]:
        """All submodules, replaced ones left out. Raises InputError for clashing names or a vain replacement."""
        offered = self.offered_submodules()
        refuse_clashes("a submodule", [(plugin, s.name) for plugin, s in offered])
        replaced = replaced_names("submodule", [(plugin, s.name, s.replaces) for plugin, s in offered])
        meanings = {s.name: s.interpretation for _, s in offered}
        return tuple(
            replace(s, interpretation=s.interpretation or meanings[s.replaces]) if s.replaces is not None else s
            for _, s in offered
            if s.name not in replaced
        )

    def custom_ops(self) -> tuple[CustomOp, ...]:
        """All custom ops. Raises InputError for clashing names."""
        offered = self.offered_custom_ops()
        refuse_clashes("a custom op", [(plugin, op.name) for plugin, op in offered])
        return tuple(op for _, op in offered)

    def offered_custom_ops(self) -> tuple[tuple[str, CustomOp], ...]:
        """Every custom op with the name of its plugin."""
        from toolkit.ops.spec import CustomOp

        return self.offers("uniad_custom_ops", CustomOp)

    def graph_passes(self) -> tuple[GraphPass, ...]:
        """All graph passes in the order of loading. Raises InputError for clashing names."""
        offered = self.offered_graph_passes()
        refuse_clashes("a graph pass", [(plugin, graph_pass.name) for plugin, graph_pass in offered])
        return tuple(graph_pass for _, graph_pass in offered)

    def offered_graph_passes(self) -> tuple[tuple[str, GraphPass], ...]:
        """Every graph pass with the name of its plugin."""
        from toolkit.graph.graph_pass import GraphPass

        return self.offers("uniad_graph_passes", GraphPass)

    def sessions(self) -> tuple[SessionKind, ...]:
        """All kinds of sessions. Raises InputError for clashing names."""
        offered = self.offered_sessions()
        refuse_clashes("a session", [(plugin, kind.name) for plugin, kind in offered])
        return tuple(kind for _, kind in offered)

    def offered_sessions(self) -> tuple[tuple[str, SessionKind], ...]:
        """Every kind of session with the name of its plugin."""
        from toolkit.engines.session_kind import SessionKind

        return self.offers("uniad_sessions", SessionKind)

    def frame_sources(self) -> tuple[FrameSourceKind, ...]:
        """All kinds of frame sources. Raises InputError for clashing prefixes."""
        offered = self.offered_frame_sources()
        refuse_clashes("a frame source", [(plugin, kind.name) for plugin, kind in offered])
        return tuple(kind for _, kind in offered)

    def offered_frame_sources(self) -> tuple[tuple[str, FrameSourceKind], ...]:
        """Every kind of frame source with the name of its plugin."""
        from toolkit.data.source_kind import FrameSourceKind

        return self.offers("uniad_frame_sources", FrameSourceKind)

    def metrics(self) -> tuple[Metric, ...]:
        """All metrics, replaced ones left out. Raises InputError for clashing names or a vain replacement."""
        offered = self.offered_metrics()
        refuse_clashes("a metric", [(plugin, metric.name) for plugin, metric in offered])
        replaced = replaced_names("metric", [(plugin, metric.name, metric.replaces) for plugin, metric in offered])
        return tuple(metric for _, metric in offered if metric.name not in replaced)

    def offered_metrics(self) -> tuple[tuple[str, Metric], ...]:
        """Every metric with the name of its plugin, replaced ones included."""
        from toolkit.evaluation.metric import Metric

        return self.offers("uniad_metrics", Metric)

    def filter_checkpoint(
        self, state_dict: Mapping[str, torch.Tensor], config: ModelConfig
    ) -> Mapping[str, torch.Tensor]:
        """The state dict as the network expects it: every plugin's filter is applied, in the order of loading.

        Raises InputError for a filter that fails, whosesoever: without it the weights may not be what they should be.
        """
        for name in self.implementers("uniad_checkpoint_filter"):
            with self.answerable(name, "fails in uniad_checkpoint_filter", optional=False):
                mapped = self.ask(name, "uniad_checkpoint_filter", state_dict=state_dict, config=config)
                state_dict = state_dict if mapped is None else mapped
        return state_dict

    def offered_commands(self) -> dict[str, typer.Typer]:
        """The commands of each plugin as an application of their own."""
        applications = {}
        for name in self.implementers("uniad_commands"):
            with self.answerable(name, "fails in uniad_commands"):
                application = typer.Typer()
                self.ask(name, "uniad_commands", app=application)
                command_names(application)  # building them shows whether they can be used
                applications[name] = application
        return applications

    def add_commands(self, app: typer.Typer) -> None:
        """Add every plugin's commands to `app`. Raises InputError for clashing names."""
        offered = self.offered_commands()
        refuse_clashes("a command", [(plugin, name) for plugin, own in offered.items() for name in command_names(own)])
        for own in offered.values():
            app.registered_commands.extend(own.registered_commands)
            app.registered_groups.extend(own.registered_groups)

    def installed_replacements(self) -> tuple[str, ...]:
        """A sentence for each submodule that an installed plugin puts in the place of another."""
        return tuple(
            f"{submodule.name} of the installed plugin {plugin!r} ({package.name} {package.version}) stands in for "
            f"{submodule.replaces}; --disable-plugin {plugin} leaves it out"
            for plugin, submodule in self.offered_submodules()
            if submodule.replaces is not None and (package := self.package(plugin)) is not None
        )

    def origin(self, submodule: Submodule) -> str:
        """The plugin that offers a submodule: a module's dotted name, an entry point's name or a file's path."""
        for plugin, offered in self.offered_submodules():
            if offered.name == submodule.name:
                return plugin
        raise KeyError(submodule.name)


def command_names(app: typer.Typer) -> list[str]:
    """Names of an application's commands and groups of commands."""
    return list(typer.main.get_group(app).commands)


def refuse_clashes(what: str, offers: Sequence[tuple[str, str]]) -> None:
    """Raise InputError if two of the (plugin, name) pairs have the same name."""
    owners: dict[str, str] = {}
    for plugin, name in offers:
        if name in owners:
            raise InputError(
                f"plugins {owners[name]!r} and {plugin!r} both offer {what} named {name!r}; rename one, or leave one "
                "of the plugins out (--disable-plugin)"
            )
        owners[name] = plugin


def replaced_names(what: str, offers: Sequence[tuple[str, str, str | None]]) -> set[str]:
    """Names that are replaced, of (plugin, name, name that it replaces).

    Raises InputError for a name that does not exist, and for one that several replace.
    """
    names = [name for _, name, _ in offers]
    replaced = Counter(target for _, _, target in offers if target is not None)
    for name, count in replaced.items():
        rivals = " and ".join(repr(plugin) for plugin, _, target in offers if target == name)
        if name not in names:
            raise InputError(
                f"plugin {rivals} replaces {what} {name!r}, which does not exist; known: {', '.join(names)}"
            )
        if count > 1:
            raise InputError(f"plugins {rivals} replace {what} {name!r}; load only one of them")
    return set(replaced)
