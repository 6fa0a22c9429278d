"""`uniad-toolkit demo`: the main job from nothing, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_warning, print_written, step
from toolkit.demo.variant import Variant
from toolkit.hookspecs import hookimpl


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `demo`."""
    app.command("demo")(demo_command)


def demo_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("demo"),
    model: Annotated[
        Variant | None,
        typer.Option(
            help="A small trained network, by default; UniAD-tiny, by default with plugin files; or UniAD-base with "
            "smaller pictures and fewer cells. The latter two have random weights."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Make a synthetic drive, convert a checkpoint, run it on ONNX Runtime, evaluate, film and report.

    The small network was trained on this very drive, of a town that is made up: pictures show that it perceives what it
    has learnt, not how it would do elsewhere. Of networks with random weights they show the machinery at work.

    Example: [bold]uniad-toolkit demo -o demo[/]
    """
    from toolkit.demo.demo import run_demo

    # Trained weights are those of the built-in network; random ones are made for whatever plugins make of it.
    model = model or (Variant.TINY if context.obj.files else Variant.MINI)
    summary = run_demo(output, context.obj, variant=model, force=force, progress=step, warn=print_warning)
    console.print()
    for what, path in summary.written.items():
        print_written(path, what)
    console.print(f"\n{summary.frames} frames, {summary.boxes} boxes; convert your own checkpoint next:")
    checkpoint = (
        "uniad_base_e2e.pth --config configs/uniad_base_stage2.toml" if model is Variant.BASE else "CHECKPOINT.pth"
    )
    console.print(
        f"  uniad-toolkit convert {checkpoint} --motion-anchors motion_anchor_infos_mode6.pkl -o bundle",
        soft_wrap=True,
    )
