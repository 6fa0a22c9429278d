"""`uniad-toolkit build`: a TensorRT engine of a bundle or of any ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import console, plain, print_duration, print_line, print_note, print_written, progress
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.settings import (
    BuildSettings,
    CustomOps,
    equivalent_command,
    parse_capabilities,
    parse_profiles,
)
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.precision import EnginePrecision, Precision
from toolkit.text import LONGEST_LINE, mebibytes

if TYPE_CHECKING:
    from toolkit.engines.tensorrt.progress import Phase


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `build`."""
    app.command("build")(build_command)


def build_command(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="BUNDLE|MODEL.onnx", help="Bundle folder, or any ONNX model.")],
    target: Annotated[Target, typer.Option(help="What the engine is to run on.")],
    precision: Annotated[
        EnginePrecision, typer.Option(help="Floating-point type, as far as it is safe.")
    ] = Precision.FP32,
    keep_fp32: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of node names, op types or submodules to leave in FP32; repeatable."),
    ] = None,
    compute_capability: Annotated[
        str | None,
        typer.Option(help="GPUs to build for, by comma (tensorrt-rtx: 8.6,8.9,12.0 by default; tensorrt: none)."),
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="NAME:MIN:OPT:MAX for an input with open sizes, as in x:1x3:4x3:8x3.")
    ] = None,
    custom_ops: Annotated[
        CustomOps, typer.Option(help="Custom ops as plugins, embedded kernels, or functions of standard operators.")
    ] = CustomOps.PLUGIN,
    workspace: Annotated[
        int | None, typer.Option(min=1, max=2**30, help="GPU memory for scratch space, in MiB.")
    ] = None,
    opt_level: Annotated[int | None, typer.Option(min=0, max=5, help="Effort of the search for tactics.")] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of timings, used and extended; created when absent (tensorrt).")
    ] = None,
    tf32: Annotated[bool, typer.Option("--tf32", help="Let FP32 products round their factors to 10 bits.")] = False,
    pack: Annotated[
        bool, typer.Option("--pack", help="Write the engine packed, as a gzip file that --session tensorrt unpacks.")
    ] = False,
    keep_model: Annotated[Path | None, typer.Option(help="Also write the ONNX model that TensorRT reads.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Engine to write; in the bundle or beside the model.")
    ] = None,
) -> None:
    """Build an engine, and a sidecar that tells what it is; needs no GPU for tensorrt-rtx.

    The build has a process of its own, whose log is kept beside the engine. An engine in the folder of its bundle is
    registered there, for `--session tensorrt`.

    Example: [bold]uniad-toolkit build bundle --target tensorrt-rtx --precision fp16[/]
    """
    settings = BuildSettings(
        target=target,
        precision=precision,
        keep_fp32=tuple(keep_fp32 or ()),
        custom_ops=custom_ops,
        capabilities=parse_capabilities(compute_capability, target),
        profiles=parse_profiles(profile or ()),
        workspace=workspace,
        optimization_level=opt_level,
        timing_cache=timing_cache,
        tf32=tf32,
        pack=pack,
    )
    build_and_print(source, settings, context.obj, output, keep_model)


def build_and_print(
    source: Path,
    settings: BuildSettings,
    plugins: PluginManager,
    output: Path | None = None,
    keep_model: Path | None = None,
) -> None:
    """Build an engine of a bundle or a model, and say what was written. Raises InputError, and CheckFailed."""
    from toolkit.bundle import MANIFEST, Bundle
    from toolkit.engines.tensorrt.claim import claim_build
    from toolkit.engines.tensorrt.process import run_build
    from toolkit.engines.tensorrt.registration import register_engine
    from toolkit.engines.tensorrt.request import BuildRequest
    from toolkit.engines.tensorrt.sidecar import ENGINE_SUFFIX, log_path, sidecar_path
    from toolkit.errors import InputError

    bundle = Bundle.read(source) if source.is_dir() else None
    if bundle is not None:
        bundle.require_intact("functional")
    model = source if bundle is None else bundle.onnx
    name = f"{settings.name}{ENGINE_SUFFIX}"
    engine = output or (model.with_suffix(f".{name}") if bundle is None else bundle.path / name)
    if engine.suffix != ENGINE_SUFFIX:
        raise InputError(f"-o {engine} must end in {ENGINE_SUFFIX}, by which engines are known")
    request = BuildRequest(
        model=model,
        engine=engine.absolute(),
        settings=settings,
        plugin_files=tuple(plugins.files),
        disabled=plugins.disabled,
        kept_model=keep_model,
    )
    claim_build(request, bundle, list(plugins.files))
    if keep_model is not None and keep_model.suffix != ".onnx":
        raise InputError(f"--keep-model {keep_model} must end in .onnx, by which models are known")
    with progress_bar(f"build {engine.name}") as report:
        sidecar = run_build(request, report)
    for check in sidecar.checks:
        print_line(check)
    packed = "" if sidecar.unpacked is None else f", packed from {mebibytes(sidecar.unpacked)},"
    print_written(engine, f"engine of {mebibytes(sidecar.bytes)} MiB{packed} for {', '.join(sidecar.capabilities)}")
    print_written(sidecar_path(engine), "sidecar")
    print_written(log_path(engine), "log")
    if bundle is not None:
        if register_engine(bundle.path, engine, sidecar):
            print_written(bundle.path / MANIFEST, "record of the engine")
        else:
            print_note("the bundle does not know of an engine outside of its folder")
    command = equivalent_command(settings, keep_model or Path("MODEL.onnx"), engine)
    said = "equivalent, with the model that --keep-model writes:"
    console.print(f"  [dim]{said}[/] {plain(command, LONGEST_LINE)}", soft_wrap=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[list[Phase]], None]]:
    """A bar for the outermost phase of a build that also names the innermost one; its time is printed at the end."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress, transient=True, disable=not progress.is_terminal) as bar:
        task = bar.add_task(plain(title), total=None)

        def report(phases: list[Phase]) -> None:
            if phases:
                outermost, innermost = phases[0], phases[-1]
                description = f"{title}: {innermost.name}"
                bar.update(task, description=plain(description), total=outermost.steps, completed=outermost.done)

        yield report
        seconds = bar.tasks[0].elapsed or 0.0
    print_duration(seconds, title)
