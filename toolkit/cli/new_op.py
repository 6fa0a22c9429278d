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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; by default NAME, or that of --package.")
    ] = None,
    package: Annotated[
        str | None, typer.Option(help="Write a project that installs a package of this name with the op as a plugin.")
    ] = None,
) -> None:
    """Write a working custom op to start from: op.py, kernel.cu and a test that passes; see docs/new-op.md.

    Example: [bold]uniad-toolkit new-op my_op -o my_op[/]
    """
    from toolkit.ops.scaffold import check_name, check_package, write_op, write_package
    from toolkit.storage.outputs import new_folder

    check_name(name, context.obj.custom_ops())
    if package is not None:
        check_package(package)
    output = output or Path(package or name)
    with new_folder(claim_folder(output, None, inputs=context.obj.files)) as folder:
        if package is None:
            write_op(name, folder)
        else:
            write_package(name, package, folder)
    print_written(output, f"op {name}" if package is None else f"package {package} with op {name}")
    install = "" if package is None else f"pip install -e {output} && "
    console.print(f"test it: {install}python -m pytest {output}", soft_wrap=True, markup=False)
