"""What becomes of a network's outputs when nvJPEG decodes the pictures in place of OpenCV: deviations per output.

python -m benchmarks.decoders BUNDLE FRAMES [--session cuda] [--precision fp16] [--frames 40]

The state is fed back, so that a track that is born in one run alone moves all that come after it: the first frame,
which has no such past, is shown beside all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from toolkit.bundle import Bundle
from toolkit.cli.run_job import open_decoder
from toolkit.cli.sessions import open_session
from toolkit.data.decoder import Decoder
from toolkit.data.device_decoding import DeviceDecoding
from toolkit.data.frames import Frame
from toolkit.data.preprocess import read_jpeg
from toolkit.data.sequence import frame_steps, step_inputs
from toolkit.data.sources import open_frames
from toolkit.engines.session import DevicePictureSession, PictureSession, Session
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.temporal_runner import TemporalRunner

Outputs = dict[str, NDArray[np.float64]]


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    address: Annotated[str, typer.Argument(help="Where frames come from.")],
    session: str = "cuda",
    precision: Precision = Precision.FP32,
    frames: Annotated[int, typer.Option(min=1)] = 40,
) -> None:
    """Run the same frames with both decoders, and compare."""
    plugins, opened = PluginManager.load(), Bundle.read(bundle)
    found = list(islice(open_frames(address, opened.config.image, plugins.frame_sources()), frames))
    engine = open_session(opened, session, plugins, precision=precision)
    keep = engine.device_pictures if isinstance(engine, DevicePictureSession) else None
    decoder = open_decoder(Decoder.NVJPEG)
    assert decoder is not None
    device = DeviceDecoding(decoder, keep)
    paths = [view.image for view in found[0].cameras.values() if isinstance(view.image, Path)]
    ours = np.stack([read_jpeg(path) for path in paths]).astype(int)
    levels = np.abs(decoder.on_host(decoder.decode([path.read_bytes() for path in paths])) - ours)
    table = Table("output", "first frame: mean", "largest", f"{len(found)} frames: mean", "largest", "frames alike")
    table.title = f"nvJPEG against OpenCV, {session}, {precision.value}: mean and largest deviation"
    table.add_row("pixels, grey levels", f"{levels.mean():.3f}", f"{levels.max()}")
    pairs = list(zip(*(outputs(opened, engine, found, each) for each in (None, device)), strict=True))
    for name in pairs[0][0]:
        apart = [np.abs(one[name] - other[name]) for one, other in pairs]
        alike = sum(bool((each == 0).all()) for each in apart)
        figures = (apart[0].mean(), apart[0].max(), np.mean([each.mean() for each in apart]), max(map(np.max, apart)))
        table.add_row(name, *(f"{figure:.2e}" for figure in figures), str(alike))
    Console(width=140).print(table)


def outputs(
    bundle: Bundle, session: Session, frames: Sequence[Frame], device: DeviceDecoding | None
) -> Iterator[Outputs]:
    """All reported outputs that have elements, of each frame."""
    runner, scene = TemporalRunner(bundle, session), ""
    memory = session.new_pictures if isinstance(session, PictureSession) else None
    for frame, inputs in step_inputs(frame_steps(frames), bundle.config, pictures=memory, device=device):
        if frame.scene != scene:
            runner, scene = TemporalRunner(bundle, session), frame.scene
        results = runner.step(inputs)
        yield {name: array.astype(np.float64) for name, array in results.items() if array.size}


if __name__ == "__main__":
    run_benchmark(main)
