"""`uniad-toolkit report`: everything about a bundle on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import print_written, step
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_file, keep_apart


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `report`."""
    app.command("report")(report_command)


def report_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")],
    results: Annotated[Path | None, typer.Option("--run", help="Folder that `run` wrote: latency, pictures.")] = None,
    verification: Annotated[
        Path | None, typer.Option("--verify", help="File that `verify --json` wrote: the worst tensors.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="Folder that `evaluate` wrote: figures, plots, the worst frames.")
    ] = None,
    rewritten: Annotated[
        list[Path] | None, typer.Option(help="Model that `rewrite` made of the bundle's: its passes; repeatable.")
    ] = None,
) -> None:
    """Write one HTML file: what was converted, how well it agrees, how fast it is, what it sees, how it drives.

    The page holds its plots and pictures itself and loads nothing.

    Example: [bold]uniad-toolkit report bundle --run results --verify verify.json -o report.html[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.report.collect import collect_report
    from toolkit.report.render import write_report
    from toolkit.storage.onnx_file import model_files

    inputs = [bundle, results, verification, evaluation, *(rewritten or ()), *context.obj.files]
    target = claim_file(output, inputs=inputs)
    with step("collect"):
        report = collect_report(
            Bundle.read(bundle),
            context.obj.submodules(),
            results=results,
            verification=verification,
            evaluation=evaluation,
            rewritten=rewritten or (),
        )
    for model in rewritten or ():
        keep_apart(target, model_files(model))
    with step("write"):
        write_report(report, target)
    print_written(output, "report")
