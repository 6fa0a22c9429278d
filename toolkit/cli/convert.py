"""`uniad-toolkit convert`: a checkpoint becomes a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.assets import AssetCommand, AssetOption, asset_files
from toolkit.cli.build import build_and_print
from toolkit.cli.console import print_line, print_note, print_written, step
from toolkit.config.check import check_values
from toolkit.config.model import CanBusRotation, ModelConfig, YawConvention
from toolkit.engines.tensorrt.library import Target, load_library
from toolkit.engines.tensorrt.settings import BuildSettings, parse_capabilities
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.precision import EnginePrecision, Precision
from toolkit.weights.layouts import Weights


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `convert`."""
    app.command("convert", cls=AssetCommand)(convert_command)


def convert_command(
    context: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Trained checkpoint, .pth or .safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle to write.")],
    asset: AssetOption = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Official config of the training (.py), or one of the toolkit (.toml); UniAD-tiny without."),
    ] = None,
    weights: Annotated[
        Weights, typer.Option(help="Of a training with moving averages: the state dict, or what it stores as averages.")
    ] = Weights.STORED,
    track_capacity: Annotated[
        int | None,
        typer.Option(help="Track rows: fresh queries and the survivors of the frame before; 1150, or the config's."),
    ] = None,
    agent_capacity: Annotated[
        int | None,
        typer.Option(help="Agents besides the ego for motion, occupancy and planning; 128, or the config's."),
    ] = None,
    can_bus_rotation: Annotated[
        CanBusRotation | None,
        typer.Option(help="What training fed of the rotation: (w, w, w, w) or all; 'scalar', or the config's."),
    ] = None,
    yaw_convention: Annotated[
        YawConvention | None,
        typer.Option(
            help="What the yaw of a box means: -heading - pi/2, or the heading; 'clockwise', or the config's."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check configuration, keys and files, and write nothing.")
    ] = False,
    build: Annotated[
        Target | None, typer.Option(help="Build an engine of the bundle as well, as `build` does.")
    ] = None,
    precision: Annotated[
        EnginePrecision, typer.Option(help="Of the engine: floating-point type, as far as it is safe.")
    ] = Precision.FP32,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
) -> None:
    """Convert a checkpoint into a bundle: one ONNX model, its weights, and the proof that both agree.

    Example: [bold]uniad-toolkit convert ckpts/tiny_imgx0.25_e2e_ep20.pth --motion-anchors
    data/others/motion_anchor_infos_mode6.pkl -o bundle[/]

    A checkpoint of UniAD v2.0 needs --can-bus-rotation quaternion --yaw-convention heading (docs/configs.md).
    """
    from toolkit.config.file import config_files, load_config
    from toolkit.conversion.convert import claim_bundle, convert
    from toolkit.conversion.prepare import prepare

    engine = engine_settings(build, precision)
    model = with_capacities(ModelConfig() if config is None else load_config(config), track_capacity, agent_capacity)
    model = with_conventions(model, can_bus_rotation, yaw_convention)
    files = asset_files(context, asset or ())
    assets = {key: each.read(file, model) for key, (each, file) in files.items()}
    inputs = [*(config_files(config) if config is not None else ()), *(file for _, file in files.values())]
    if dry_run:
        claim_bundle(checkpoint, output, [*inputs, *context.obj.files], force=force)
        prepared = prepare(checkpoint, context.obj, model, assets, weights, step)
        print_notes(prepared.notes, prepared.left_out)
        parts = ", ".join(prepared.network.parts)
        print_line(f"{len(prepared.network.weights())} entries make {parts}; nothing was written")
        return
    bundle = convert(
        checkpoint,
        output,
        context.obj,
        config=model,
        config_file=config,
        assets=assets,
        weights=weights,
        force=force,
        inputs=inputs,
        progress=step,
    )
    print_written(bundle.path, "bundle")
    print_notes(bundle.provenance.get("notes", ()), bundle.provenance["left_out"])
    if engine is not None:
        build_and_print(bundle.path, engine, context.obj)


def engine_settings(target: Target | None, precision: Precision) -> BuildSettings | None:
    """How to build an engine after the conversion, if one is wanted.

    Raises InputError for a precision that nothing is built in, and for a library that cannot be loaded.
    """
    if target is None:
        if precision is not Precision.FP32:
            raise InputError(f"--precision {precision.value} is of no use without --build; a bundle is in FP32")
        return None
    load_library(target)
    return BuildSettings(target=target, precision=precision, capabilities=parse_capabilities(None, target))


def print_notes(notes: Iterable[str], left_out: Mapping[str, str]) -> None:
    """What was chosen of the checkpoint, and which submodules it does not make."""
    for note in notes:
        print_note(note)
    for name, reason in left_out.items():
        print_note(f"the bundle has no {name}: {reason}")


def with_capacities(config: ModelConfig, tracks: int | None, agents: int | None) -> ModelConfig:
    """The config with these capacities, where given. Raises InputError for ones that cannot work."""
    queries, reports = config.tracking.queries, config.tracking.max_reports
    tracks = config.tracking.track_capacity if tracks is None else tracks
    agents = config.tracking.agent_capacity if agents is None else agents
    if tracks <= queries:
        raise InputError(f"--track-capacity {tracks} leaves no room for survivors; it must exceed {queries}")
    if not 1 <= agents <= reports:
        raise InputError(f"--agent-capacity {agents} must lie between 1 and {reports}, the number of reported boxes")
    if tracks < reports:
        raise InputError(f"--track-capacity {tracks} is too small; it must hold the {reports} reported boxes")
    sized = replace(config, tracking=replace(config.tracking, track_capacity=tracks, agent_capacity=agents))
    check_values(sized)
    return sized


def with_conventions(config: ModelConfig, rotation: CanBusRotation | None, yaw: YawConvention | None) -> ModelConfig:
    """The config with these conventions, where given."""
    return replace(
        config, can_bus_rotation=rotation or config.can_bus_rotation, yaw_convention=yaw or config.yaw_convention
    )
