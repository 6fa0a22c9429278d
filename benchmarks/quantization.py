"""FP32 against INT8 on the CPU: time of a run, size, and what ONNX Runtime computes in integers.

    python -m benchmarks.quantization MODEL.onnx [--inputs x.npz] [--runs 20] [--threads 2]

Ranges and times are of the inputs given, or of random ones. Both models take turns run by run, so that a change of the
machine's speed meets both.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import onnx
import onnxruntime
import typer
from onnx import ModelProto
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from toolkit.bounded.limits import Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.graph.equivalence import first_run
from toolkit.graph.given_inputs import read_given_inputs
from toolkit.graph.model_file import model_path, read_model, write_model
from toolkit.graph.precision.policy import FP16
from toolkit.onnxruntime_options import session_options
from toolkit.plugin.manager import PluginManager
from toolkit.quantization.candidates import find_candidates, plain_model, tensors_to_calibrate
from toolkit.quantization.insert import quantize_model
from toolkit.quantization.observation import observe
from toolkit.quantization.scheme import QuantizationMode, Scheme
from toolkit.text import mebibytes

INTEGER = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat")
FLOAT = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
LIMITS = Limits(600, 16 * 10**9)


def main(
    model: Annotated[Path, typer.Argument(help="ONNX file, or bundle folder.")],
    inputs: Annotated[Path | None, typer.Option(help="npz with an array for each input.")] = None,
    runs: Annotated[int, typer.Option(help="Runs to time, after one to warm up.")] = 20,
    threads: Annotated[int, typer.Option(help="CPU threads of either model.")] = len(os.sched_getaffinity(0)),
    keep: Annotated[list[str] | None, typer.Option(help="Pattern of what stays as it is; repeatable.")] = None,
) -> None:
    """Quantize all layers of a model, and time it before and after."""
    plugins = PluginManager.load()
    ops = plugins.custom_ops()
    plain = plain_model(read_model(model_path(model)), ops)
    arrays = first_run(plain, optimized=True)[0] if inputs is None else read_given_inputs(inputs, plain)
    tensors = tensors_to_calibrate(find_candidates(plain, ops))
    with BoundedProcess(LIMITS) as process:
        ranges = observe(plain, tensors, process, arrays)
    scheme = Scheme(QuantizationMode.INT8, tuple(keep or ()), policy=FP16)
    result = quantize_model(plain, ranges, scheme, ops)
    with tempfile.TemporaryDirectory() as folder:
        versions = {"FP32": plain, "INT8": result.model}
        loaded = {name: load(version, Path(folder) / name, threads) for name, version in versions.items()}
        table = Table("", "median ms", "min ms", "max ms", "MiB", "products in integers", "in floats")
        seconds = take_turns({name: session for name, (session, _, _) in loaded.items()}, arrays, runs)
        for name, (_, size, kinds) in loaded.items():
            times = (statistics.median(seconds[name]), min(seconds[name]), max(seconds[name]))
            counts = (sum(kinds[op] for op in group) for group in (INTEGER, FLOAT))
            table.add_row(name, *(f"{1000 * value:.1f}" for value in times), mebibytes(size), *map(str, counts))
    console = Console()
    console.print(table)
    ratio = statistics.median(seconds["FP32"]) / statistics.median(seconds["INT8"])
    console.print(
        f"INT8 is {ratio:.2f} times as fast with {threads} threads; {len(result.nodes)} layers are quantized, "
        f"{len(result.kept)} are not"
    )


def load(model: ModelProto, folder: Path, threads: int) -> tuple[Any, int, Counter[str]]:
    """A session of a model, the bytes of its files, and the operators that ONNX Runtime runs for it, counted."""
    folder.mkdir()
    files = write_model(model, folder / "model.onnx")
    options = session_options(threads=threads)
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    session = onnxruntime.InferenceSession(str(files[0]), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(folder / "optimized.onnx", load_external_data=False)
    return session, sum(file.stat().st_size for file in files), Counter(n.op_type for n in optimized.graph.node)


def take_turns(sessions: dict[str, Any], inputs: Any, runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each session, but the first."""
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(runs + 1):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(None, inputs)
            seconds[name].append(time.perf_counter() - started)
    return {name: times[1:] for name, times in seconds.items()}


if __name__ == "__main__":
    run_benchmark(main)
