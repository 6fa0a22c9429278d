"""`uniad-toolkit quantize`: a bundle becomes one whose layers compute with 8 bits, as far as it still drives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.console import print_warning, print_written, progress, step
from toolkit.cli.plugin_command import PluginCommand
from toolkit.data.sources import address_paths
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.methods import Method
from toolkit.quantization.scheme import QuantizationMode
from toolkit.storage.claims import claim_file, claim_folder, keep_apart

if TYPE_CHECKING:
    import numpy as np

    from toolkit.quantization.drive import Drive


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `quantize`."""
    app.command("quantize", cls=PluginCommand)(quantize_command)


def quantize_command(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, of FP32.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle to write.")],
    calibration: Annotated[str | None, typer.Option(help="Frames that ranges are found on: {addresses}.")] = None,
    mode: Annotated[QuantizationMode, typer.Option(help="The 8-bit type.")] = QuantizationMode.INT8,
    method: Annotated[
        Method, typer.Option(help="How far a tensor's codes reach: to all values, or to what loses least.")
    ] = Method.MSE,
    like: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --calibration: a quantized bundle whose layers, type and ranges are taken again."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Bundle of FP32 that gates compare with; by default that to be quantized.")
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of node names, op types or submodules not to quantize; repeatable."),
    ] = None,
    drive: Annotated[
        str | None, typer.Option(help="Frames that gates are held over; those of the calibration by default.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Frames with ground truth, as `evaluate` takes them: its metrics are gates too.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="JSON file of the calibration: reused if it is there, else written.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Most minutes until a choice of layers must have been found.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; by default one a core.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Quantize a bundle with Q/DQ nodes, as far as gates allow: what it does on a drive stays near what FP32 does.

    Ranges come from frames in order, with state fed back. Then each submodule and each layer class is quantized alone,
    and what hurts most is kept until objects, ids, map, occupancy, plan and state hold: docs/quantization.md. Exit
    status 1 if they hold for no choice.

    After a training with --quantize, --like repeats the quantization that it was made for, and --reference names the
    bundle of before.

    Example: [bold]uniad-toolkit quantize bundle --calibration nuscenes:data/nuscenes -o bundle.int8[/]
    """
    from toolkit.bundle import Bundle
    from toolkit.cli.quantize_driving import Driving
    from toolkit.cli.quantize_tables import show_calibration, show_record
    from toolkit.data.sources import image_files
    from toolkit.quantization.calibration_file import Calibration
    from toolkit.quantization.drive import open_drive, require_calibratable, require_whole_scenes
    from toolkit.quantization.quantize import (
        Cache,
        Frames,
        Like,
        Settings,
        describe,
        quantize_bundle,
        require_comparable,
        require_unquantized,
    )
    from toolkit.quantization.record import CALIBRATION
    from toolkit.storage.outputs import new_folder

    plugins: PluginManager = context.obj
    inputs = [
        bundle,
        like,
        reference,
        *address_paths(calibration),
        *address_paths(drive),
        *address_paths(data),
        *plugins.files,
    ]
    reused = cache if cache is not None and cache.exists() else None
    target = claim_folder(output, "bundle", force=force, inputs=[*inputs, reused])
    written = None
    if cache is not None and reused is None:
        written = claim_file(cache, inputs=inputs, others=[target])
    if (calibration is None) == (like is None):
        raise InputError("give --calibration with the frames to find ranges on, or --like with a quantized bundle")
    if like is not None and (drive is None or cache is not None):
        raise InputError("--like has its ranges already: give --drive with the frames for the gates, and no --cache")
    if mode is QuantizationMode.FP8 and method is Method.ENTROPY:
        raise InputError("--method entropy counts the levels of int8; with --mode fp8 give max, percentile or mse")
    opened = Bundle.read(bundle, print_warning)
    require_unquantized(opened)
    for form in ("functional", "weights"):
        opened.require_intact(form)
    repeated = None if like is None else Like.read(Bundle.read(like, print_warning), opened)
    if repeated is not None:
        found = repeated.calibration.source
        if (mode, method) not in ((found.mode, found.method), (QuantizationMode.INT8, Method.MSE)):
            raise InputError(
                f"--like {like} is in {found.mode.value} by {found.method.value}; leave --mode, --method out"
            )
        mode, method = found.mode, found.method
    compared = opened if reference is None else Bundle.read(reference, print_warning)
    require_comparable(compared, opened)
    driving = None if data is None else Driving(data, plugins, target, threads)
    with step("read frames"):
        drives = [
            open_drive(opened, address, plugins.frame_sources(), print_warning)
            for address in (calibration, drive)
            if address is not None
        ]
        frames = None if calibration is None else drives[0]
        if frames is not None:
            require_calibratable(frames)
        require_whole_scenes(drives[-1])
    pictures = list(image_files([frame for each in drives for frame in each.frames]))
    keep_apart(target, pictures)
    if written is not None:
        keep_apart(written, pictures)
    settings = Settings(mode, method, tuple(keep or ()), float("inf") if budget is None else 60 * budget, threads)
    with new_folder(target) as folder:
        record = quantize_bundle(
            opened,
            folder,
            Frames(frames, drives[-1]),
            settings,
            plugins.submodules(),
            plugins.custom_ops(),
            cache=Cache(reused, written),
            like=repeated,
            reference=compared,
            progress=step,
            track=tracked,
        )
        quantized = describe(opened, folder, record)
        if driving is not None:
            record = replace(record, driving=driving.compare(compared, quantized))
            quantized = describe(opened, folder, record)
        show_calibration(Calibration.read(folder / CALIBRATION))
        show_record(record)
    print_written(output, f"bundle in {quantized.precision}")


def tracked(drive: Drive, what: str) -> Iterable[Mapping[str, np.ndarray]]:
    """The frames of a drive; how many are done, and the time left, is shown."""
    from rich.progress import track

    yield from track(drive, what, total=len(drive), console=progress, transient=True, disable=not progress.is_terminal)
