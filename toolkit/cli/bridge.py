"""`uniad-toolkit bridge`: the file that records a model in the environment that it was trained in."""

from __future__ import annotations

import keyword
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_written
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_file


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `bridge`."""
    app.command("bridge")(bridge_command)


def bridge_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path("uniad_bridge.py"),
) -> None:
    """Write a Python file that stands alone: beside your training code, it records what your model does, for `verify`.

    Example: [bold]uniad-toolkit bridge -o uniad_bridge.py[/]
    """
    from toolkit.bridge.assemble import assemble
    from toolkit.errors import InputError
    from toolkit.storage.outputs import new_file

    if not output.stem.isidentifier() or keyword.iskeyword(output.stem):
        raise InputError(f"{output}: Python cannot import {output.stem!r}; choose a name such as my_bridge.py")
    target = claim_file(output, inputs=context.obj.files)
    if target.before is not None:
        raise InputError(f"{output} already exists; choose another output")
    with new_file(target) as work:
        work.write_text(assemble(), encoding="utf-8")
    print_written(output, "bridge to a training environment")
    console.print(
        f"there: from {output.stem} import attach; attach(model, 'dump.npz', frames=8)", markup=False, soft_wrap=True
    )
