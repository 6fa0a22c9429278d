"""`uniad-toolkit benchmark`: how long each stage of a frame takes here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.console import console, plain, print_warning, print_written, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.cli.sessions import DEFAULT_SESSION, PrecisionOption, SessionOption, open_session, used_precision
from toolkit.data.sources import address_paths
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.precision import Precision
from toolkit.storage.claims import claim_file, keep_apart
from toolkit.text import LONGEST_LINE

DEFAULT_FRAMES = "10"


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `benchmark`."""
    app.command("benchmark", cls=PluginCommand)(benchmark_command)


def benchmark_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    session: SessionOption = DEFAULT_SESSION,
    precision: PrecisionOption = Precision.FP32,
    frames: Annotated[
        str, typer.Option(help="How many made-up frames to count, or where frames come from: {addresses}.")
    ] = DEFAULT_FRAMES,
    length: Annotated[
        int | None, typer.Option(min=1, help="How many frames of an address to count; all by default.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
) -> None:
    """Measure each stage of a frame, from the camera's files to those of the results and its picture, and the memory.

    The bundle alone is enough: made-up frames are written as JPEG files and run. A first frame is not counted.
    docs/performance.md says what the stages are.

    Example: [bold]uniad-toolkit benchmark bundle --frames 20 --json benchmark.json[/]
    """
    import shlex
    import sys

    from toolkit.benchmarking.measure import WARM_UP, benchmark
    from toolkit.benchmarking.probe_pictures import write_probe_frames
    from toolkit.benchmarking.report import facts, timing_table, write_json
    from toolkit.bundle import Bundle
    from toolkit.data.sources import image_files, open_frames
    from toolkit.storage.outputs import temporary_folder

    source = None if frames.isdecimal() else frames
    target = None
    if output is not None:
        target = claim_file(output, inputs=[bundle, *address_paths(source), *context.obj.files])
    opened = Bundle.read(bundle, print_warning)
    command = shlex.join([context.find_root().info_name or "", *sys.argv[1:]])
    with temporary_folder("frames") as folder:
        if source is None:
            with step("write made-up frames"):
                chosen = write_probe_frames(opened.config, probe_count(frames, length) + WARM_UP, folder)
        else:
            with step("read frames"):
                found = open_frames(source, opened.config.image, context.obj.frame_sources(), print_warning)
                chosen = list(found)[: length and length + WARM_UP]
            if len(chosen) < WARM_UP + (length or 1):
                raise InputError(f"{frames} holds {len(chosen)} frames, the first of which is not counted; give more")
        if target is not None:
            keep_apart(target, image_files(chosen))
        with step(f"load the {session} session"):
            engine = open_session(opened, session, context.obj, precision=precision)
        with step(f"run {len(chosen)} frames, and again to look into the model"):
            result = benchmark(opened, engine, context.obj.submodules(), chosen)
    used = used_precision(opened, session, precision, context.obj)
    console.print(timing_table(result, used))
    for name, value in (facts(result) | {"command": command}).items():
        console.print(f"  [dim]{plain(name)}:[/] {plain(value, LONGEST_LINE)}", soft_wrap=True)
    if target is not None:
        write_json(result, used, command, target)
        print_written(target.given, "figures")


def probe_count(frames: str, length: int | None) -> int:
    """The number of made-up frames. Raises InputError for none, or too many, or a length as well."""
    if length is not None:
        raise InputError(f"--length chooses from the frames of an address; give --frames {length} alone")
    if len(frames) > 5 or int(frames) < 1:
        raise InputError(f"--frames {frames} must lie between 1 and 99999")
    return int(frames)
