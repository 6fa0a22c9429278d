"""`uniad-toolkit prepare`: nuScenes as a frame folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_warning, print_written, progress, step
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_folder


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `prepare`."""
    app.command("prepare")(prepare_command)


def prepare_command(
    context: typer.Context,
    dataroot: Annotated[Path, typer.Option(help="nuScenes folder: samples/, maps/, can_bus/ and v1.0-…/.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Frame folder to write.")],
    version: Annotated[
        str | None, typer.Option(help="v1.0-mini, v1.0-trainval or v1.0-test; not needed if there is only one.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="mini_train, mini_val, train, val or test; all without.")] = None,
    scenes: Annotated[str | None, typer.Option(help="Names of scenes, by comma; all of the split without.")] = None,
    command: Annotated[
        str | None, typer.Option(help="right, left or straight for every frame; from the ego's own drive without.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Write key frames of nuScenes as a frame folder: one JSON a frame, and the camera images byte for byte.

    Example: [bold]uniad-toolkit prepare --dataroot data/nuscenes --version v1.0-mini --split mini_val -o frames[/]
    """
    from rich.progress import track

    from toolkit.data.fields import command_field
    from toolkit.data.frame_folder import write_frame
    from toolkit.data.nuscenes.dataroot import read_dataroot
    from toolkit.data.sources import comma_separated
    from toolkit.storage.outputs import new_folder

    target = claim_folder(output, "frames", force=force, inputs=[dataroot, *context.obj.files])
    with new_folder(target) as folder:
        with step("read nuScenes tables"):
            frames = read_dataroot(
                dataroot,
                version=version,
                split=split,
                scenes=comma_separated(scenes),
                command=None if command is None else command_field(command, "--command"),
                warn=print_warning,
            )
        for frame in track(frames, "copy frames", console=progress, transient=True, disable=not progress.is_terminal):
            write_frame(frame, folder)
    print_written(output, f"{len(frames)} frames (scenes: {len({frame.scene for frame in frames})})")
