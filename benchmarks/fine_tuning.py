"""What quantizing a trained network loses, and how much of it a fine-tuning with its rounding regains.

    python -m benchmarks.fine_tuning CONFIG.toml BUNDLE nuscenes:drive nuscenes:held-out [--steps 300] [--reach 0.5]
        [--asset KEY=FILE.npy] [--mode int8]

All layers of the bundle that have an 8-bit form are quantized, those included that `quantize` keeps, and no choice is
made. Ranges are those of the training frames by the percentile; with --reach they are cut to a part of it, so that
something is lost. The network is then tuned twice from the bundle's weights, on the same clips: with the rounding, and
without, so that what it learns by tuning alone is not taken for what rounding had cost. Losses are means over all clips
of the drive that is held out, in evaluation mode.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.cli.console import print_warning
from toolkit.config.file import load_config
from toolkit.engines.torch import load_network
from toolkit.graph.model_file import read_model
from toolkit.graph.precision.policy import FP16
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.calibration import collect
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.drive import open_drive
from toolkit.quantization.fake import FakeQuantization
from toolkit.quantization.insert import quantize_model
from toolkit.quantization.methods import Method
from toolkit.quantization.places import Places, find_places
from toolkit.quantization.ranges import TensorRange
from toolkit.quantization.scheme import WEIGHTED, QuantizationMode, Scheme
from toolkit.quantization.trials import written
from toolkit.specs import Submodule
from toolkit.training.clip import Clip
from toolkit.training.clip_model import ClipModel, total, without_randomness
from toolkit.training.clips import Place, Share, places
from toolkit.training.config import load_training_config
from toolkit.training.dataset import open_clips
from toolkit.training.optimiser import clip_gradients, make_optimiser
from toolkit.training.settings import default_options
from toolkit.training.spec import is_trained
from toolkit.training.start import stage_submodules, start_network

PARTS = ("track", "map", "motion", "occ", "planning")


def main(
    config: Annotated[Path, typer.Argument(help="Config of the training, of the second stage.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle of the trained network.")],
    data: Annotated[str, typer.Argument(help="Frames to calibrate and to tune on.")],
    held_out: Annotated[str, typer.Argument(help="Frames that losses are computed on.")],
    asset: Annotated[list[str] | None, typer.Option(help="KEY=FILE of an entry that no training gives.")] = None,
    mode: Annotated[QuantizationMode, typer.Option(help="The 8-bit type.")] = QuantizationMode.INT8,
    steps: Annotated[int, typer.Option(help="Of the optimiser.")] = 300,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = 1e-4,
    reach: Annotated[float, typer.Option(help="Part of each range that codes reach.")] = 1.0,
) -> None:
    """Quantize, tune, and compare losses."""
    plugins = PluginManager.load()
    model, training = load_config(config), replace(load_training_config(config), learning_rate=rate)
    submodules = stage_submodules(plugins.submodules(), training.stage)
    assets = {key: np.load(file) for key, _, file in (each.partition("=") for each in asset or ())}
    opened = Bundle.read(bundle, print_warning)
    found = quantized_places(opened, data, plugins, mode, reach)
    clips, judged = (
        open_clips(
            address, plugins.frame_sources(), submodules, model, training.queue_length, training.seed, distorted=False
        )
        for address in (data, held_out)
    )
    unseen = [judged[Place(0, number)] for number in range(len(judged))]
    order = [place for epoch in range(1 + steps // len(clips)) for place in places(len(clips), epoch, 0, Share(), 1)]

    def tuned(count: int, *, rounded: bool) -> Network:
        """The network of the bundle after so many steps."""
        network = start_network(opened.weights, plugins, model, training.stage, assets, training.seed).network
        options = without_randomness(network, default_options(submodules))
        rounding = FakeQuantization(network, found) if rounded else nullcontext()
        learner = ClipModel(network, training.stage, options, rounding)
        optimiser = make_optimiser(learner.named_parameters(), training)
        for place in track(order[:count], f"tune {'with' if rounded else 'without'} rounding"):
            with torch.enable_grad():
                total(learner(clips[place])).backward()
            clip_gradients(learner.parameters(), training.gradient_norm)
            optimiser.step()
            optimiser.zero_grad()
        return network

    rows: dict[str, Mapping[str, float]] = {}
    tunings = {"": (0, False), " tuned with rounding": (steps, True), " tuned without": (steps, False)}
    for title, (count, rounded) in tunings.items():
        network = tuned(count, rounded=rounded)
        rows[f"FP32{title}"] = losses(network, submodules, training.stage, unseen, None)
        rows[f"{mode.value.upper()}{title}"] = losses(network, submodules, training.stage, unseen, found)
    table = Table("", "total", *PARTS)
    for title, values in rows.items():
        table.add_row(title, *(f"{values[part]:.3f}" for part in ("total", *PARTS)))
    console = Console()
    console.print(
        f"{len(found.found)} layers rounded, {len(found.left)} left, {len(clips)} clips, {len(unseen)} held out"
    )
    console.print(table)
    with_rounding, whole, lost = (list(rows.values())[row]["total"] for row in (3, 4, 5))
    share = (lost - with_rounding) / (lost - whole)
    console.print(
        f"of the {lost - whole:.3f} that rounding costs after tuning without it, tuning with it saves {share:.0%}"
    )


def quantized_places(
    bundle: Bundle, address: str, plugins: PluginManager, mode: QuantizationMode, reach: float
) -> Places:
    """Where all layers of a bundle round, by ranges of its frames."""
    ops = plugins.custom_ops()
    plain = plain_model(read_model(bundle.onnx), ops)
    tensors = tensors_to_calibrate(c for c in find_candidates(plain, ops) if c.layer_class in WEIGHTED)
    with tempfile.TemporaryDirectory() as folder, written(plain, bundle, Path(folder)) as prepared:
        drive = open_drive(bundle, address, plugins.frame_sources(), print_warning)
        histograms = collect(prepared, tensors, drive).histograms
    ranges = {
        name: TensorRange(each.low, each.high, reach * each.limit(Method.PERCENTILE, mode))
        for name, each in histograms.items()
    }
    made = quantize_model(plain, ranges, Scheme(mode, policy=FP16), ops)
    return find_places(made.model, made.nodes, load_network(bundle, plugins), mode)


def losses(
    network: Network, submodules: Sequence[Submodule], stage: int, clips: Sequence[Clip], found: Places | None
) -> dict[str, float]:
    """The mean losses of clips in evaluation mode, in total and by the part that their names begin with."""
    rounding = None if found is None else FakeQuantization(network, found)
    model = ClipModel(network, stage, without_randomness(network, default_options(submodules)), rounding).train(False)
    sums = dict.fromkeys(("total", *PARTS), 0.0)
    with torch.no_grad():
        for clip in clips:
            for name, value in model(clip).items():
                if is_trained(name):
                    for key in ("total", name.split(".")[0]):
                        sums[key] += float(value.nan_to_num().mean()) / len(clips)
    return sums


if __name__ == "__main__":
    run_benchmark(main)
