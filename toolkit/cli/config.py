"""`uniad-toolkit config`: what a model configuration says, in the toolkit's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, print_written
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_file, keep_apart


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `config`."""
    app.command("config")(config_command)


def config_command(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="Official config (.py), or one of the toolkit (.toml).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="TOML file to write, instead of printing it.")
    ] = None,
) -> None:
    """Read a model configuration and show every field as TOML, as `convert --config` understands it.

    Example: [bold]uniad-toolkit config projects/configs/stage2_e2e/tiny_imgx0.25_e2e.py -o model.toml[/]
    """
    from toolkit.config.file import config_files, load_config, to_toml
    from toolkit.storage.outputs import new_file

    target = None if output is None else claim_file(output, inputs=[config, *context.obj.files])
    text = to_toml(load_config(config))
    if target is None:
        console.print(text, markup=False, soft_wrap=True, end="")
        return
    keep_apart(target, config_files(config))
    with new_file(target) as work:
        work.write_text(text, encoding="utf-8")
    print_written(target.given, "model configuration")
