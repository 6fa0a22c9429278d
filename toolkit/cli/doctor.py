"""`uniad-toolkit doctor`: can this installation do the job?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import console
from toolkit.errors import CheckFailed
from toolkit.hookspecs import hookimpl
from toolkit.text import LONGEST_LINE, shown

if TYPE_CHECKING:
    from toolkit.doctor.check import Check


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `doctor`."""
    app.command("doctor")(doctor_command)


def doctor_command(
    context: typer.Context,
    root: Annotated[
        Path | None, typer.Option(help="Folder with ckpts/, data/ and nuscenes_np/, to check them too.")
    ] = None,
) -> None:
    """Check packages, machine and GPU, and convert every custom op as a test; say what is missing and how to get it.

    Exit status 0 if a checkpoint can be converted and run on this machine. Notes are about what is optional.

    Example: [bold]uniad-toolkit doctor --root .[/]
    """
    from toolkit.doctor.check import Status
    from toolkit.doctor.examination import examine

    failed = []
    for title, checks in examine(context.obj, root):
        print_section(title, checks)
        failed += [check.subject for check in checks if check.status is Status.FAILED]
    if failed:
        raise CheckFailed(f"{', '.join(failed)}: see what is said above")


def print_section(title: str, checks: Sequence[Check]) -> None:
    """A table of checks, remedies below what was found."""
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "note": "yellow", "failed": "bold red"}
    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in checks:
        status = check.status.value
        found = Text(shown(check.found, LONGEST_LINE))
        if check.remedy:
            found.append(f"\n{shown(check.remedy, LONGEST_LINE)}", "dim")
        table.add_row(Text(status, colours[status]), Text(shown(check.subject)), found)
    console.print(table)
    console.print()
