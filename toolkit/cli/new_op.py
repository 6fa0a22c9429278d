"""`uniad-toolkit new-op`: the folder of a new custom op."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_written
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_folder


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `new-op`."""
    app.command("new-op")(new_op_command)


def new_op_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Lower-case words joined by underscores.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write; NAME by default.")] = None,
) -> None:
    """Write a working custom op to start from: op.py, kernel.cu and a test that passes; see docs/new-op.md.

    Example: [bold]uniad-toolkit new-op my_op -o my_op[/]
    """
    from toolkit.ops.scaffold import check_name, write_op
    from toolkit.storage.outputs import new_folder

    check_name(name, context.obj.custom_ops())
    output = output or Path(name)
    with new_folder(claim_folder(output, None, inputs=context.obj.files)) as folder:
        write_op(name, folder)
    print_written(output, f"op {name}")
    console.print(f"test it: python -m pytest {output}", soft_wrap=True, markup=False)
