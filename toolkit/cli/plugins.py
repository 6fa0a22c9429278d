"""`uniad-toolkit plugins`: who contributes what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import typer

from toolkit.cli.console import console, plain
from toolkit.hookspecs import hook_questions, hookimpl
from toolkit.plugin.manager import PluginManager, command_names
from toolkit.text import LONGEST_LINE


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `plugins`."""
    app.command("plugins")(plugins_command)


def plugins_command(context: typer.Context) -> None:
    """List the hooks and the plugins behind them: from which package or file, what each adds or replaces.

    Plugins that are disabled or were skipped come last. Plugins that contradict each other end in an error.

    Example: [bold]uniad-toolkit plugins --plugin my_planner.py[/]
    """
    plugins: PluginManager = context.obj
    contributed = contributions(plugins)
    for hook, question in hook_questions().items():
        names = ", ".join(plugins.implementers(hook)) or "nobody"
        show(f"[bold]{hook}[/]: {plain(question)}", [f"implemented by {names}"])
    for source in dict.fromkeys(plugin.source for plugin in plugins.plugins):
        lines = [
            f"{plugin.name}: {', '.join(contributed.get(plugin.name, ['nothing']))}"
            for plugin in plugins.plugins
            if plugin.source == source
        ]
        show(f"[bold]plugins from {plain(source)}[/]", lines)
    idle = dict.fromkeys(plugins.disabled, "disabled by --disable-plugin") | plugins.skipped
    if idle:
        show("[bold yellow]not in use[/]", [f"{name}: {reason}" for name, reason in idle.items()])
    plugins.submodules()
    plugins.custom_ops()
    plugins.graph_passes()
    plugins.sessions()
    plugins.frame_sources()
    plugins.metrics()


def contributions(plugins: PluginManager) -> Mapping[str, Sequence[str]]:
    """What each plugin adds, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    submodules = plugins.offered_submodules()
    replacements = {s.replaces: s.name for _, s in submodules if s.replaces is not None}
    for plugin, submodule in submodules:
        note = f" in place of {submodule.replaces}" if submodule.replaces else ""
        if submodule.name in replacements:
            note += f" (replaced by {replacements[submodule.name]})"
        found[plugin].append(f"submodule {submodule.name}{note}")
        found[plugin] += [f"asset {asset.key}" for asset in submodule.assets]
    for plugin, op in plugins.offered_custom_ops():
        found[plugin].append(f"custom op {op.name}")
    for plugin, graph_pass in plugins.offered_graph_passes():
        found[plugin].append(f"graph pass {graph_pass.name}")
    for plugin, session in plugins.offered_sessions():
        found[plugin].append(f"session {session.name}")
    for plugin, source in plugins.offered_frame_sources():
        found[plugin].append(f"frame source {source.name}")
    for plugin, metric in plugins.offered_metrics():
        note = f" in place of {metric.replaces}" if metric.replaces else ""
        found[plugin].append(f"metric {metric.name}{note}")
    for plugin in plugins.implementers("uniad_checkpoint_filter"):
        found[plugin].append("checkpoint filter")
    for plugin, application in plugins.offered_commands().items():
        found[plugin] += [f"command {name}" for name in command_names(application)]
    return found


def show(heading: str, lines: Sequence[str]) -> None:
    """Lines of plain text under a heading with markup."""
    console.print(heading, soft_wrap=True)
    for line in lines:
        console.print(f"  {plain(line, LONGEST_LINE)}", soft_wrap=True)
    console.print()
