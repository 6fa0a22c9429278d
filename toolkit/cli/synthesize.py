"""`uniad-toolkit synthesize`: made-up drives in the nuScenes format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_written, progress
from toolkit.hookspecs import hookimpl


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `synthesize`."""
    app.command("synthesize")(synthesize_command)


def synthesize_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, a nuScenes dataroot.")],
    scenes: Annotated[int, typer.Option(help="How many scenes.")] = 2,
    keyframes: Annotated[int, typer.Option(help="Key frames of each scene, half a second apart.")] = 40,
    seed: Annotated[int, typer.Option(help="The same seed gives the same dataset.")] = 0,
    version: Annotated[str, typer.Option(help="v1.0-mini, v1.0-trainval or v1.0-test.")] = "v1.0-mini",
    image_scale: Annotated[float, typer.Option(help="Size of the pictures, of 1600x900.")] = 1.0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that record a scene each; by default one a core.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Make up a town with traffic, drive through it, and write what the car records as a nuScenes dataset.

    Six camera pictures and a LiDAR scan a key frame, all tables with annotations, the maps and the CAN bus: whatever
    reads nuScenes reads it. No download is needed.

    Example: [bold]uniad-toolkit synthesize -o dataroot[/]
    """
    from rich.progress import track

    from toolkit.synthetic.dataset import DriveSettings, synthesize

    settings = DriveSettings(scenes, keyframes, seed, version, image_scale)
    workers = min(workers or len(os.sched_getaffinity(0)), scenes)
    frames = synthesize(output, settings, force=force, inputs=context.obj.files, workers=workers)
    for _ in track(
        frames,
        "key frames",
        total=scenes * keyframes,
        console=progress,
        transient=True,
        disable=not progress.is_terminal,
    ):
        pass
    print_written(output, f"{version} with {counted(scenes, 'scene')} of {counted(keyframes, 'key frame')}")


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
