"""`uniad-toolkit train`: a stage of the training, on any number of processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.assets import AssetCommand, AssetOption, asset_files
from toolkit.cli.console import print_note, print_written, progress, step, without_progress
from toolkit.cli.train_clip import write_clip_losses
from toolkit.errors import CheckFailed, InputError
from toolkit.hookspecs import hookimpl
from toolkit.text import one_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from toolkit.training.clip_model import ClipModel
    from toolkit.training.clips import Clips
    from toolkit.training.journal import StepRecord
    from toolkit.training.run import Run
    from toolkit.training.run_checkpoint import RunCheckpoint


@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    """Add `train`."""
    app.command("train", cls=AssetCommand)(train_command)


def train_command(
    context: typer.Context,
    config: Annotated[
        Path, typer.Argument(help="Official config of the training (.py), or one of the toolkit (.toml).")
    ],
    data: Annotated[str | None, typer.Option(help="Frames with ground truth: nuscenes:… or infos:….")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the run.")] = None,
    asset: AssetOption = None,
    stage: Annotated[int | None, typer.Option(min=1, max=2, help="1 or 2; by default what the config says.")] = None,
    init: Annotated[Path | None, typer.Option(help="Checkpoint to start from; random weights without.")] = None,
    quantize: Annotated[
        Path | None,
        typer.Option(help="Quantized bundle: train with its rounding. Without --init it begins with its weights."),
    ] = None,
    evaluate: Annotated[
        str | None, typer.Option(help="Frames with ground truth to judge the network on, at the end.")
    ] = None,
    evaluate_every: Annotated[int | None, typer.Option(min=1, help="And after every so many epochs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    precision: Annotated[Literal["fp32", "tf32", "bf16"], typer.Option(help="What is computed in.")] = "fp32",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What is computed on.")] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile parts of the network first; no faster so far.")
    ] = False,
    graphs: Annotated[bool, typer.Option("--graphs", help="On a GPU: launch parts of the network as a whole.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value of a setting; repeatable.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, max=1024, help="Processes that make clips, for each that trains.")] = 2,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep decoded pictures there, for all processes and later runs."),
    ] = None,
    cache_gb: Annotated[
        float, typer.Option(min=0, max=1e6, help="With --cache: the most that may lie in it, in GB.")
    ] = 64.0,
    pinned: Annotated[
        bool, typer.Option("--pin-memory", help="Clips wait in page-locked memory, for copies to a GPU.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps of the optimiser in all.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the folder of an earlier run.")] = False,
    clip: Annotated[Path | None, typer.Option(help="Instead of --data: npz of one clip, for comparing.")] = None,
    losses: Annotated[Path | None, typer.Option(help="With --clip: JSON of its losses and gradient norms.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="With --clip: losses of another training to compare with, such as the bridge's.")
    ] = None,
    double: Annotated[bool, typer.Option("--double", help="With --clip: compute in float64.")] = False,
) -> None:
    """Train a stage: tracking and map first, everything from the second on. Every epoch leaves a checkpoint.

    A stop leaves one as well; --resume goes on from the last. With several GPUs start it by torchrun. --clip and
    --losses train nothing: they compute one clip, without randomness, as the stable interface for comparing trainings.

    Example: [bold]uniad-toolkit train configs/uniad_tiny_stage1.toml --data nuscenes:data/nuscenes --init
    start.safetensors -o stage1[/] or [bold]torchrun --standalone --nproc-per-node 8 --no-python uniad-toolkit train
    …[/]
    """
    from toolkit.config.file import config_files, load_config
    from toolkit.data.picture_cache import CacheFolder
    from toolkit.data.sources import address_paths
    from toolkit.storage.claims import FolderOutput, claim_file, claim_folder, keep_apart
    from toolkit.training.clip_model import ClipModel
    from toolkit.training.compilation import compile_parts
    from toolkit.training.config import load_training_config
    from toolkit.training.dataset import open_clips
    from toolkit.training.graphs import CudaRecorder, GraphCalls
    from toolkit.training.journal import CURVES_FILE
    from toolkit.training.judging import FOLDER, Examination
    from toolkit.training.processes import TrainingPrecision, make_fabric
    from toolkit.training.quantized import read_quantized, rounding_in
    from toolkit.training.run import Run, steps_in_all
    from toolkit.training.run_checkpoint import newest_checkpoint
    from toolkit.training.run_folder import (
        CLIPS_DIGEST,
        KIND,
        require_same_clips,
        require_same_run,
        settings_of,
        start_folder,
    )
    from toolkit.training.settings import default_options, with_settings
    from toolkit.training.start import stage_submodules, start_network
    from toolkit.training.update import GraphedUpdate, MakeUpdate, PlainUpdate

    plugins = context.obj
    files = asset_files(context, asset or ())
    addresses = [*address_paths(data), *address_paths(evaluate)]
    places = [*config_files(config), init, quantize, clip, against, cache, *addresses]
    inputs = [*places, *plugins.files, *(file for _, file in files.values())]
    # All processes look at the folder before they join; the first makes it after that.
    target = claim_folder(output, KIND, force=force, inputs=inputs) if output is not None and not resume else None
    if cache is not None:
        folder = None if output is None else FolderOutput(Path(os.path.realpath(output)), None, output, KIND)
        keep_apart(FolderOutput(Path(os.path.realpath(cache)), None, cache, None), addresses, [folder])
    written = None if losses is None else claim_file(losses, inputs=inputs, others=[target])
    if clip is not None or written is not None or against is not None or double:
        if clip is None or written is None or data is not None or output is not None or resume or cache is not None:
            raise InputError("--clip and --losses go together, without --data, -o, --resume and --cache")
        if compiled or graphs or quantize is not None:
            raise InputError(
                "--clip and --losses compute the network as it is; leave out --compile, --graphs and --quantize"
            )
        pairs = settings or ()
        write_clip_losses(config, stage, pairs, clip, init, files, written, plugins, against=against, double=double)
        return
    if data is None or output is None:
        raise InputError("give --data and -o to train, or --clip and --losses to compare")
    if evaluate_every is not None and evaluate is None:
        raise InputError("--evaluate-every needs --evaluate with the frames to judge the network on")
    if resume and (init is not None or force):
        raise InputError("--resume goes on with the run as it is; leave out --init and --force")
    chosen = {"--compile": compiled, "--graphs": graphs, "--quantize": quantize is not None}
    if len(both := [name for name, given in chosen.items() if given]) > 1:
        raise InputError(f"{both[0]} has not been tried with {both[1]}; leave one of them out")
    model, training = load_config(config), load_training_config(config, stage)
    submodules = stage_submodules(plugins.submodules(), training.stage)
    training, options = with_settings(training, default_options(submodules), settings or ())
    assets = {key: each.read(file, model) for key, (each, file) in files.items()}
    fabric = make_fabric(TrainingPrecision(precision), device)
    if graphs and fabric.device.type != "cuda":
        raise InputError("--graphs is of CUDA graphs, and there is no NVIDIA GPU here; leave it out")
    quantized = None if quantize is None else read_quantized(quantize, plugins)
    identity = None if quantized is None else quantized.bundle.identity
    run_settings = settings_of(model, training, options, precision, fabric.world_size, identity)
    notes: list[str] = []
    with without_progress(fabric.global_rank > 0):
        with step("build the network"):
            checkpoint = None
            if resume:
                require_same_run(output, run_settings)
                checkpoint = newest_checkpoint(output, notes.append)
            source = init if checkpoint is None else checkpoint.path
            if source is None and quantized is not None:
                source = quantized.bundle.weights
            start = start_network(source, plugins, model, training.stage, assets, training.seed)
            notes += start.notes
            rounding: AbstractContextManager[object] = nullcontext()
            if quantized is not None:
                rounding, sentences = rounding_in(quantized, start.network, training.stage)
                notes += sentences
        with step("find the clips"):
            clips = open_clips(
                data,
                plugins.frame_sources(),
                submodules,
                model,
                training.queue_length,
                training.seed,
                distorted=training.distort_pictures,
                cache=None if cache is None else CacheFolder(cache, int(cache_gb * 1e9)),
            )
            kept, pictures = clips.cached
            if kept < pictures:
                notes.append(f"{kept:,} of {pictures:,} pictures fit into {cache_gb:g} GB of {cache}; see --cache-gb")
        run_settings["clips"] = len(clips)
        if resume:
            require_same_run(output, run_settings)
            require_same_clips(output, clips.digest)
        run_settings[CLIPS_DIGEST] = clips.digest
        if fabric.global_rank == 0:
            if target is not None:
                start_folder(target, model, run_settings)
            for note in notes:
                print_note(note)
        fabric.barrier()
        network = ClipModel(start.network, training.stage, options, rounding)
        if compiled:
            count = compile_parts(network)
            if fabric.global_rank == 0:
                print_note(f"{count} modules are compiled in the first steps, which takes minutes")
        make_update: MakeUpdate = PlainUpdate
        if graphs:
            recorder = CudaRecorder()
            network.calls = GraphCalls(recorder)
            make_update = partial(GraphedUpdate, capture=recorder.capture)
        examination = None if evaluate is None else Examination.open(evaluate, model, plugins)

        def judge(checkpoint: Path) -> None:
            if examination is not None:
                with step(f"judge {checkpoint.stem}"), rounding:
                    folder = output / FOLDER.format(checkpoint.stem)
                    figures, evaluation = examination.judge(start.network, str(fabric.device), folder)
                network.train()
                print_written(figures, f"{len(evaluation.figures)} figures")

        def epoch_ended(checkpoint: Path, epoch: int) -> None:
            print_written(checkpoint, "checkpoint")
            if evaluate_every is not None and epoch % evaluate_every == 0 and epoch < training.epochs:
                judge(checkpoint)

        with _shown(steps_in_all(len(clips), training, fabric.world_size)) as told:
            run = Run(output, training, workers, pinned, steps, told, epoch_ended, make_update)
            last = _train(run, network, clips, fabric, checkpoint)
        if fabric.global_rank == 0:
            judge(last)
            print_written(output / CURVES_FILE, "loss curves")
            print_written(last, "last checkpoint")


def _train(run: Run, network: ClipModel, clips: Clips, fabric: Fabric, start: RunCheckpoint | None) -> Path:
    """Train; what befalls the machine in it becomes one line."""
    import torch

    from toolkit.training.compilation import is_failed_compilation
    from toolkit.training.graphs import GraphCalls, NotRecorded
    from toolkit.training.processes import is_dead_process
    from toolkit.training.run import train

    try:
        return train(run, network, clips, fabric, start)
    except torch.OutOfMemoryError as error:
        graphs = "leave out --graphs, " if isinstance(network.calls, GraphCalls) else ""
        raise InputError(
            f"the GPU has too little memory for a clip; {graphs}take --precision bf16, fewer frames (--set "
            "queue_length=3) or another config, and go on with --resume where that is the same "
            f"({one_line(error):.100})"
        ) from error
    except NotRecorded as error:
        raise InputError(f"--graphs: torch cannot make a graph of {one_line(error):.300}; leave it out") from error
    except RuntimeError as error:
        if is_failed_compilation(error):
            raise InputError(
                f"--compile: torch cannot compile the network here ({one_line(error):.200}); leave it out, or install "
                "what the compiler needs, such as g++"
            ) from error
        if not is_dead_process(error):
            raise
        raise CheckFailed(
            f"another process of the run has ended ({one_line(error):.150}); go on from the last checkpoint in "
            f"{run.folder} with --resume"
        ) from error


@contextmanager
def _shown(steps: int) -> Iterator[Callable[[StepRecord], None]]:
    """What shows how far the run is, and how long it will take."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=progress) as bar:
        task = bar.add_task("train", total=steps)

        def told(record: StepRecord) -> None:
            words = f"epoch {record.epoch}  loss {record.total:.3f}  {record.seconds:.2f} s a step"
            bar.update(task, completed=record.step, description=words)

        yield told
