"""`uniad-toolkit new-pass`: the folder of a new graph pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_written
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_folder


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `new-pass`."""
    app.command("new-pass")(new_pass_command)


def new_pass_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Lower-case words joined by hyphens.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; by default NAME with underscores.")
    ] = None,
) -> None:
    """Write a working graph pass to start from, with a test where it fires and one where not; see docs/graph-passes.md.

    Example: [bold]uniad-toolkit new-pass fuse-my-norm[/]
    """
    from toolkit.graph.scaffold import check_pass_name, module_name, write_pass
    from toolkit.storage.outputs import new_folder

    check_pass_name(name, context.obj.graph_passes())
    output = output or Path(module_name(name))
    with new_folder(claim_folder(output, None, inputs=context.obj.files)) as folder:
        write_pass(name, folder)
    print_written(output, f"pass {name}")
    console.print(f"test it: python -m pytest {output}", soft_wrap=True, markup=False)
