"""Time, peak memory and size of engine builds, by precision and by the GPUs they are for; needs no GPU.

The processor time tells more than the time on a clock where other work shares the processor.

python -m benchmarks.engine_build BUNDLE [--target tensorrt]
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.process import run_build
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.settings import DEFAULT_CAPABILITIES, BuildSettings, CustomOps
from toolkit.engines.tensorrt.sidecar import Sidecar
from toolkit.precision import Precision

MIB = 2**20


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    target: Annotated[Target, typer.Option(help="What builds.")] = Target.TENSORRT_RTX,
) -> None:
    """Build one engine a row, each in a process of its own, and print the figures."""
    model = Bundle.read(bundle).onnx
    capabilities: list[tuple[str, ...]] = [()]
    if target is Target.TENSORRT_RTX:
        capabilities = [DEFAULT_CAPABILITIES, *((name,) for name in DEFAULT_CAPABILITIES)]
    settings = [BuildSettings(target, Precision.FP32, capabilities=names) for names in capabilities]
    settings += [BuildSettings(target, p, capabilities=capabilities[0]) for p in (Precision.FP16, Precision.BF16)]
    settings.append(BuildSettings(target, custom_ops=CustomOps.FUNCTION, capabilities=capabilities[0]))
    numbers = [
        Column(name, justify="right") for name in ("s", "processor s", "peak MiB", "engine MiB", "layers", "plugins")
    ]
    table = Table("precision", "custom ops", "for", *numbers)
    with tempfile.TemporaryDirectory() as folder:
        for one in settings:
            before = processor_seconds()
            sidecar = run_build(BuildRequest(model, Path(folder) / "m.engine", one), lambda phases: None)
            table.add_row(*row(sidecar, processor_seconds() - before))
    Console(width=110).print(table)


def processor_seconds() -> float:
    """What the processes that this one started have used, once they have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(sidecar: Sidecar, processor: float) -> tuple[str, ...]:
    """The figures of an engine. Its layers are those of the network, before the builder fuses them."""
    numbers = (sidecar.peak_mib, sidecar.bytes // MIB, sum(sidecar.layers.values()), sidecar.layers.get("PLUGIN_V3", 0))
    names = (sidecar.precision, sidecar.custom_ops, " ".join(sidecar.capabilities))
    return *names, f"{sidecar.seconds:.0f}", f"{processor:.0f}", *(f"{number:,}" for number in numbers)


if __name__ == "__main__":
    run_benchmark(main)
