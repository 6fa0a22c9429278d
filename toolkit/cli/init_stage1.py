"""`uniad-toolkit init-stage1`: BEVFormer-tiny weights, ready for the training of stage 1."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_written
from toolkit.config.model import ModelConfig
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_file


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `init-stage1`."""
    app.command("init-stage1")(init_stage1_command)


def init_stage1_command(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="BEVFormer-tiny checkpoint, .pth or .safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write, .pth or .safetensors.")],
) -> None:
    """Prepare BEVFormer-tiny weights for the training of stage 1, where `load_from` of its config names them.

    The detection queries become track queries, with their last row repeated for the ego, and the projection to
    reference points moves to where tracking looks for it. Everything else stays as it is.

    Example: [bold]uniad-toolkit init-stage1 ckpts/bevformer_tiny_epoch_24.pth -o
    ckpts/bevformer_tiny_epoch_24_updated2.pth[/]
    """
    from toolkit.weights.checkpoint import load_checkpoint
    from toolkit.weights.stage1 import DETECTION_QUERIES, MOVED, TRACK_QUERIES, stage1_weights, write_weights
    from toolkit.weights.stored import checkpoint_files

    target = claim_file(output, inputs=[*checkpoint_files(checkpoint), *context.obj.files])
    loaded = load_checkpoint(checkpoint)
    prepared = stage1_weights(loaded.state_dict, ModelConfig())
    write_weights(target, prepared, loaded.meta)
    rows = len(prepared[TRACK_QUERIES])
    console.print(f"{DETECTION_QUERIES}, {rows - 1} rows -> {TRACK_QUERIES}, {rows} rows", soft_wrap=True)
    for old, new in MOVED.items():
        console.print(f"{old} -> {new}", soft_wrap=True)
    print_written(output, f"{len(prepared)} entries")
