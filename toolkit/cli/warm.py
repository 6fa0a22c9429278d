"""`uniad-toolkit warm`: what a session makes before its first frame, made ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_note, print_warning, print_written, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.sessions import PrecisionOption, SessionOption, open_session, require_precision, session_kind
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.text import mebibytes


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `warm`."""
    app.command("warm", cls=PluginCommand)(warm_command)


def warm_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    session: SessionOption = "cuda",
    precision: PrecisionOption = Precision.FP32,
) -> None:
    """Make ahead what a session makes before its first frame, and keep it for the starts that follow.

    Sessions of the same bundle, precision, GPU and versions find it from then on. Run it when an image is built, or on
    each kind of machine of a cluster, as the user who will run the sessions: what others wrote is not used.

    Example: [bold]uniad-toolkit warm bundle --session cuda --precision fp16[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.data.probe import probe_frame
    from toolkit.engines.session_kind import SessionOptions
    from toolkit.runtime.temporal_runner import TemporalRunner

    plugins: PluginManager = context.obj
    require_precision(precision, (session,), plugins)
    kind = session_kind(plugins, session)
    if kind.kept is None:
        able = " or ".join(each.name for each in plugins.sessions() if each.kept is not None)
        raise InputError(f"session {session!r} keeps nothing from one start to the next; use --session {able}")
    opened = Bundle.read(bundle, print_warning)
    folder = kind.kept(opened, plugins, SessionOptions(precision))
    before = files_in(folder)
    with step(f"load the {session} session"):
        runner = TemporalRunner(opened, open_session(opened, session, plugins, precision=precision))
    with step("run a made-up frame"):
        runner.step(probe_frame(opened.config, 0, continues=False))
    files = files_in(folder)
    if not files:
        raise CheckFailed(f"{folder} is empty: nothing was kept; the warning above tells why")
    made, size = len(files.keys() - before.keys()), mebibytes(sum(files.values()))
    if made:
        print_written(folder, f"{made} files; {size} MiB in all")
    else:
        print_note(f"{folder} had it all already: {len(files)} files, {size} MiB")


def files_in(folder: Path) -> dict[Path, int]:
    """The files of a folder with their sizes in bytes."""
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
