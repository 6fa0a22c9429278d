"""`uniad-toolkit run`: a frame folder through a bundle, to JSON and pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_warning, print_written, step
from toolkit.cli.sessions import SessionKind, open_session
from toolkit.errors import CheckFailed
from toolkit.hookspecs import hookimpl


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `run`."""
    app.command("run")(run_command)


def run_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    frames: Annotated[Path, typer.Argument(help="Frame folder: jpg + json, see docs/frame-format.md.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    session: Annotated[SessionKind, typer.Option(help="What runs the network.")] = SessionKind.ONNXRUNTIME,
    pictures: Annotated[bool, typer.Option(help="Draw a bird's-eye picture of every frame.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Run frames with state fed back: one JSON a frame, its masks beside it as npz, and a bird's-eye picture.

    A frame whose results are not finite is left out; the rest are written, and the exit status is 1.

    Example: [bold]uniad-toolkit run bundle frames -o results[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.data.frame_folder import read_frame_folder
    from toolkit.files import new_folder
    from toolkit.runtime.results import write_result
    from toolkit.runtime.sequence import run_sequence
    from toolkit.visualize.birds_eye import draw_birds_eye

    opened = Bundle.read(bundle)
    source = read_frame_folder(frames, opened.config.image.cameras)
    with new_folder(output, force=force) as folder:
        with step(f"load the {session.value} session"):
            engine = open_session(opened, session, context.obj)
        submodules = context.obj.submodules()
        left_out = []
        started = time.perf_counter()
        for result in run_sequence(opened, engine, submodules, source):
            try:
                write_result(result, folder)
                if pictures:
                    draw_birds_eye(result, folder / f"{result.frame}.png")
            except CheckFailed as failure:
                print_warning(f"{failure}; left out")
                left_out.append(result.frame)
            seconds, started = time.perf_counter() - started, time.perf_counter()
            dropped = result.dropped_tracks + result.dropped_agents
            console.print(
                f"  [dim]{seconds:6.1f} s[/]  {result.frame}: {len(result.boxes)} boxes"
                + (f", [yellow]{dropped} beyond capacity[/]" if dropped else "")
                + (f", [yellow]{result.repairs}[/]" if result.repairs else ""),
                soft_wrap=True,
            )
    print_written(output, f"{len(source) - len(left_out)} frames")
    if left_out:
        raise CheckFailed(
            f"{len(left_out)} of {len(source)} frames have results that are not finite, first {left_out[0]}; "
            "`verify` the bundle"
        )
