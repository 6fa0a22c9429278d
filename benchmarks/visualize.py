"""Time to draw a frame at 1920x1080 and to write it: CPU time of one thread, medians over the frames of a drive.

python -m benchmarks.visualize RESULTS ADDRESS
"""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import cv2
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.command import run_benchmark
from toolkit.config.model import ModelConfig
from toolkit.data.sources import open_annotations, open_frames
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.result_reader import open_results
from toolkit.visualize.frame_picture import draw_frame, draw_result, write_picture
from toolkit.visualize.shown import with_frames


def main(
    results: Annotated[Path, typer.Argument(help="What `run` wrote.")],
    address: Annotated[str, typer.Argument(help="The frames that it is of.")],
) -> None:
    """Draw and write every frame of the results."""
    cv2.setNumThreads(1)
    config, sources = ModelConfig(), PluginManager.load().frame_sources()
    frames = list(open_frames(address, config.image, sources))
    truth = open_annotations(address, frames, sources)
    moments = with_frames(open_results(results), {frame.name: frame for frame in frames}, truth)
    drawn: list[float] = []
    written: list[float] = []
    above: list[float] = []
    boxes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        for moment in moments:
            assert moment.frame is not None
            clock = [time.process_time()]
            picture = draw_frame(moment.result, moment.frame, config, moment.annotations)
            clock.append(time.process_time())
            write_picture(picture, Path(folder) / "a.jpg")
            clock.append(time.process_time())
            draw_result(moment.result, moment.annotations)
            clock.append(time.process_time())
            for times, (start, end) in zip((drawn, written, above), pairwise(clock), strict=True):
                times.append(end - start)
            boxes.append(len(moment.result.boxes))
    table = Table("part", "median ms", "max ms", title=f"{len(boxes)} frames of {statistics.median(boxes):g} boxes")
    for part, times in {"draw, with cameras": drawn, "write as .jpg": written, "draw, from above": above}.items():
        table.add_row(part, f"{1000 * statistics.median(times):.0f}", f"{1000 * max(times):.0f}")
    Console().print(table)


if __name__ == "__main__":
    run_benchmark(main)
