"""`uniad-toolkit replay`: official input tensors in, official output tensors out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_written, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.sessions import DEFAULT_SESSION, PrecisionOption, SessionOption, open_session
from toolkit.hookspecs import hookimpl
from toolkit.precision import Precision
from toolkit.storage.claims import claim_file


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `replay`."""
    app.command("replay", cls=PluginCommand)(replay_command)


def replay_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    inputs: Annotated[Path, typer.Argument(help="npz with keys f{t}.in.NAME, t from 0, official names.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="npz to write, keys f{t}.out.NAME.")],
    session: SessionOption = DEFAULT_SESSION,
    precision: PrecisionOption = Precision.FP32,
) -> None:
    """Run tensors as they are, with state fed back: the stable interface for comparing conversions.

    Recurrent inputs in frame 0 start the state; inputs without effect are ignored.

    Example: [bold]uniad-toolkit replay bundle inputs.npz -o outputs.npz --session torch[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.reference_interface.replay import output_keys, read_inputs, replay
    from toolkit.storage.npz import write_npz
    from toolkit.storage.outputs import new_file

    target = claim_file(output, inputs=[bundle, inputs, *context.obj.files])
    opened = Bundle.read(bundle)
    frames = read_inputs(inputs)
    with step(f"load the {session} session"):
        runner = open_session(opened, session, context.obj, precision=precision)
    with new_file(target) as work, step(f"run {len(frames)} frames"):
        outputs = enumerate(replay(opened, runner, frames, f"{inputs}: "))
        write_npz(work, (item for number, frame in outputs for item in output_keys(number, frame).items()))
    print_written(output, "outputs")
