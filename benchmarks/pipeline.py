"""What `run` does around the network: frames a second with a session that answers at once, and one step at a time.

python -m benchmarks.pipeline BUNDLE ADDRESS [--no-pictures]

The answers are recorded from the bundle's own session first. Both ways take turns; the best of each counts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from toolkit.batch.scenes import Scene, split_scenes
from toolkit.batch.writer import SceneWriter
from toolkit.bundle import Bundle
from toolkit.cli.sessions import open_session
from toolkit.data.sources import open_frames
from toolkit.data.stage_clock import Stage
from toolkit.engines.session import Session
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.run_record import FrameRecord


class Recording:
    """A session that keeps what another one answers, and gives it again, in the same order, at once."""

    def __init__(self, session: Session) -> None:
        self.name = session.name
        self._session = session
        self._answers: list[dict[str, np.ndarray]] = []
        self._replayed: Iterator[dict[str, np.ndarray]] | None = None

    def rewind(self) -> None:
        """From now on give the answers again, from the first."""
        self._replayed = iter(self._answers)

    def upload(self, array: np.ndarray) -> Any:
        return array

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self._replayed is not None:
            return next(self._replayed)
        fed = {name: self._session.upload(array) for name, array in inputs.items()}
        answer = {name: self._session.download(value) for name, value in self._session.run(fed).items()}
        self._answers.append(answer)
        return answer

    def download(self, tensor: Any) -> np.ndarray:
        array: np.ndarray = tensor
        return array

    def finite(self, tensors: Iterable[Any]) -> bool:
        return all(bool(np.isfinite(array).all()) for array in tensors)


class Serial(SceneWriter):
    """A frame is written before the next one is run."""

    def run(self, scene: Scene) -> Iterator[FrameRecord]:
        return map(self._write, self._results(scene))


def main(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    address: Annotated[str, typer.Argument(help="Where frames come from.")],
    session: Annotated[str, typer.Option(help="Session whose answers are recorded.")] = "torch",
    pictures: Annotated[bool, typer.Option(help="Draw a picture of every frame.")] = True,
    rounds: Annotated[int, typer.Option(min=1, help="Runs each way.")] = 3,
) -> None:
    """Run all frames both ways."""
    plugins = PluginManager.load()
    opened = Bundle.read(bundle)
    frames = list(open_frames(address, opened.config.image, plugins.frame_sources()))
    scenes = list(split_scenes(frames))
    recording = Recording(open_session(opened, session, plugins, precision=Precision.FP32, threads=None))
    seconds: dict[str, float] = {}
    records: dict[str, list[FrameRecord]] = {}
    ways: dict[str, Callable[..., SceneWriter]] = {"one after another": Serial, "run": SceneWriter}
    with tempfile.TemporaryDirectory() as folder:

        def timed(way: Callable[..., SceneWriter]) -> tuple[float, list[FrameRecord]]:
            writer = way(opened, recording, plugins.submodules(), "evaluation", pictures, Path(folder))
            start = time.perf_counter()
            done = [record for scene in scenes for record in writer.run(scene)]
            return time.perf_counter() - start, done

        timed(Serial)
        for _ in range(rounds):
            for name, way in ways.items():
                recording.rewind()
                took, done = timed(way)
                if took < seconds.get(name, float("inf")):
                    seconds[name], records[name] = took, done
    table = Table("ms a frame", *ways, title=f"{len(frames)} frames")
    for stage in Stage:
        cells = [1000 * sum(r.seconds.get(stage, 0.0) for r in records[name]) / len(frames) for name in ways]
        table.add_row(stage.value, *(f"{cell:.1f}" for cell in cells))
    table.add_row("frames a second", *(f"{len(frames) / seconds[name]:.1f}" for name in ways))
    first, second = seconds.values()
    table.add_row("ratio", "1.00", f"{first / second:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
