"""`uniad-toolkit pseudo-weights`: stand-ins for trained weights, to try a configuration before it is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_line, print_written, step
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_folder, keep_apart


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `pseudo-weights`."""
    app.command("pseudo-weights")(pseudo_weights_command)


def pseudo_weights_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    config: Annotated[
        Path | None, typer.Option(help="Official config (.py), or one of the toolkit (.toml); UniAD-tiny without.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other weights.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Write a checkpoint and motion anchors for a configuration, random with the scales of trained ones.

    They show before a training whether its network converts, builds and runs, and how fast; they detect nothing.

    Example: [bold]uniad-toolkit pseudo-weights --config mine.py -o trial[/]
    """
    from toolkit.config.file import config_files, load_config
    from toolkit.config.model import ModelConfig
    from toolkit.demo.pseudo_weights import write_pseudo_weights
    from toolkit.storage.outputs import new_folder

    target = claim_folder(output, "pseudo-weights", force=force, inputs=[config, *context.obj.files])
    model = ModelConfig() if config is None else load_config(config)
    keep_apart(target, [] if config is None else config_files(config))
    with new_folder(target) as folder, step("make pseudo-trained weights"):
        checkpoint, anchors = write_pseudo_weights(folder, context.obj.submodules(), model, seed)
    print_written(output / checkpoint.name, "checkpoint")
    print_written(output / anchors.name, "motion anchors")
    given = "" if config is None else f" --config {config}"
    print_line(
        f"next: uniad-toolkit convert {output / checkpoint.name}{given} "
        f"--motion-anchors {output / anchors.name} -o bundle"
    )
