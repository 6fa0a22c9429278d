"""`uniad-toolkit kernels`: the CUDA kernels of the custom ops, without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import console, print_warning, print_written, step
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.storage.claims import claim_folder

if TYPE_CHECKING:
    from toolkit.ops.spec import CustomOp

ARCHITECTURES = "sm_86,sm_89,sm_90,sm_120"


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `kernels`."""
    group = typer.Typer(help="CUDA kernels of the custom ops.", no_args_is_help=True)
    group.command("compile")(compile_command)
    app.add_typer(group, name="kernels")


def compile_command(
    context: typer.Context,
    op: Annotated[str | None, typer.Argument(help="Name of one op, as in MyOp; all of them by default.")] = None,
    *,
    arch: Annotated[str, typer.Option(help="Architectures, by comma.")] = ARCHITECTURES,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write PTX and cubin to.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")] = False,
) -> None:
    """Compile the kernel of every custom op, or of one, for the calls that UniAD-tiny makes; needs no GPU.

    Each is compiled in FP32 and FP16. An op that the network does not call is compiled for its example. A cubin copied
    into the kernel cache (~/.cache/uniad-toolkit/kernels) spares the machine that runs it the compilation.

    Example: [bold]uniad-toolkit kernels compile --arch sm_86,sm_89 -o kernels[/]
    """
    from rich.table import Column, Table

    from toolkit.config.model import ModelConfig
    from toolkit.ops.precompile import calls_to_compile, compile_calls, parse_architectures, write_kernels
    from toolkit.storage.outputs import new_folder
    from toolkit.wiring import join

    target = None if output is None else claim_folder(output, "kernels", force=force, inputs=context.obj.files)
    architectures = parse_architectures(arch)
    ops = chosen_ops(context.obj.custom_ops(), op)
    with step("find the calls of the network"):
        calls = calls_to_compile(join(context.obj.submodules(), ModelConfig()), ops)
    called = [call.op for call in calls]
    for left in (each for each in ops if each not in called):
        reason = "it has no kernel" if left.kernel is None else "the network does not call it and it has no example"
        print_warning(f"{left.name} is not compiled: {reason}")
    with step("compile"):
        kernels = list(compile_calls(calls, architectures))
    table = Table(Column("op", overflow="fold"), "first input", "dtype", "arch", "PTX bytes", "cubin bytes")
    for kernel in kernels:
        table.add_row(
            kernel.call.op.name,
            "x".join(map(str, kernel.call.shapes[0])),
            kernel.dtype,
            kernel.architecture,
            str(len(kernel.ptx)),
            str(len(kernel.cubin)),
        )
    console.print(table)
    if target is not None:
        with new_folder(target) as folder:
            write_kernels(kernels, folder)
        print_written(target.given, f"{2 * len(kernels)} files")


def chosen_ops(ops: Sequence[CustomOp], name: str | None) -> Sequence[CustomOp]:
    """All ops, or the one that is named. Raises InputError if there is none of the name."""
    chosen = [op for op in ops if name in (None, op.name)]
    if not chosen:
        raise InputError(f"there is no custom op {name!r}; known: {', '.join(op.name for op in ops)}")
    return chosen
