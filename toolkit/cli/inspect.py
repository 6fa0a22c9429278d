"""`uniad-toolkit inspect`: what a checkpoint, a bundle, an ONNX model or an engine is and holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_written
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_file, keep_apart


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `inspect`."""
    app.command("inspect")(inspect_command)


def inspect_command(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="Checkpoint (.pth, .safetensors), bundle folder, .onnx or .engine file.")
    ],
    against: Annotated[
        Path | None, typer.Option(help="Second checkpoint or bundle: show how its weights differ.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the whole report to this file too.")] = None,
) -> None:
    """Say what a file is, how large its parts are and what is odd about it. Nothing in it is run.

    Example: [bold]uniad-toolkit inspect ckpts/tiny_imgx0.25_e2e_ep20.pth --against ckpts/tiny_imgx0.25_track_map.pth[/]
    """
    import json
    from dataclasses import asdict

    from toolkit.cli.inspection_tables import show, show_difference
    from toolkit.inspection.difference import compare_weights
    from toolkit.inspection.files import inspect_file, inspected_files, weights_of
    from toolkit.storage.outputs import new_file

    target = None if json_file is None else claim_file(json_file, inputs=[path, against, *context.obj.files])
    report = inspect_file(path, context.obj.submodules())
    if target is not None:
        keep_apart(target, [file for each in (path, against) if each is not None for file in inspected_files(each)])
    values = asdict(report)
    show(report)
    if against is not None:
        difference = compare_weights(weights_of(path), weights_of(against), str(against))
        values["difference"] = asdict(difference)
        show_difference(difference)
    if target is not None:
        with new_file(target) as work:
            work.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        print_written(target.given, "report")
