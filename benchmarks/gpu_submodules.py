"""Time of the network on a GPU by submodule: each compiled as in the cuda session, but a CUDA graph of its own.

    python -m benchmarks.gpu_submodules [--precision fp32 --precision fp16 …] [--repeats 50] [--config FILE]
        [--json FILE]

Inputs are those of the fourth frame of the probe drive with the pseudo-trained weights. In the session, submodules that
do not depend on each other run side by side, and their graph starts once: the sum of these times exceeds the model's.
Times are between CUDA events, over all repeats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.command import run_benchmark
from benchmarks.gpu_network import config_of, pseudo_network
from benchmarks.gpu_work import GpuWork, profiled
from toolkit.benchmarking.environment import environment
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.network import Network
from toolkit.precision import Precision
from toolkit.specs import Submodule

FRAMES = 4


@dataclass(frozen=True)
class Share:
    """What one submodule takes in one precision."""

    submodule: str
    precision: Precision
    milliseconds: float
    work: GpuWork


def main(
    precision: Annotated[list[Precision] | None, typer.Option(help="All by default.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Launches to time.")] = 50,
    output: Annotated[Path | None, typer.Option("--json", help="File to write all figures to.")] = None,
    config: Annotated[Path | None, typer.Option(help="Of the network; UniAD-tiny's by default.")] = None,
) -> None:
    """Time every submodule of the network on the GPU at hand."""
    if not torch.cuda.is_available():
        raise SystemExit("needs a CUDA GPU and a torch built for it")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    network = pseudo_network(config_of(config)).to("cuda")
    tensors = last_tensors(network)
    shares = [
        time_submodule(network, submodule, chosen, tensors, repeats)
        for chosen in precision or list(Precision)
        for submodule in network.graph.submodules
    ]
    Console(width=130).print(share_table(shares))
    if output is not None:
        figures = {"environment": environment("cuda"), "shares": [asdict(share) for share in shares]}
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def last_tensors(network: Network) -> dict[str, Tensor]:
    """All tensors of the last frame, state fed back before it: inputs and outputs of every submodule."""
    graph = network.graph
    dimensions = graph.config.dimensions()
    state = {spec.name: torch.from_numpy(spec.zeros(dimensions)).cuda() for spec in graph.state_inputs}
    tensors: dict[str, Tensor] = {}
    for frame in probe_frames(graph.config, FRAMES, scene_change=FRAMES):
        inputs = {spec.name: torch.from_numpy(frame[spec.name]).cuda() for spec in graph.frame_inputs} | state
        with torch.inference_mode():
            tensors = inputs | network(inputs)
        state = {each.input: tensors[each.source] for each in graph.states}
    return tensors


def time_submodule(
    network: Network, submodule: Submodule, precision: Precision, tensors: Mapping[str, Tensor], repeats: int
) -> Share:
    """Compile, capture, warm up, and time one submodule."""
    from toolkit.engines.gpu.compiled.network import compile_submodule, run_side_by_side

    parts = compile_submodule(network, submodule, precision)
    inputs = {name: tensors[name].clone() for name in submodule.reads}
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.inference_mode():
        graph = FrameGraph(partial(run_side_by_side, parts), inputs)
        _, work = profiled(lambda: graph(inputs))
        start.record()
        for _ in range(repeats):
            graph(inputs)
        end.record()
    torch.cuda.synchronize()
    return Share(submodule.name, precision, start.elapsed_time(end) / repeats, work)


def share_table(shares: list[Share]) -> Table:
    """One row a submodule, precision by precision."""
    title = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    table = Table("precision", "submodule", "ms", "GPU busy ms", "kernels", title=title)
    for share in shares:
        work = share.work
        numbers = (f"{share.milliseconds:.3f}", f"{work.busy_milliseconds:.3f}", str(work.kernels))
        table.add_row(share.precision.value, share.submodule, *numbers)
    return table


if __name__ == "__main__":
    run_benchmark(main)
