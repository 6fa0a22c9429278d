"""The model's time by submodule, in a pass of its own: looking that closely slows a session down."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from toolkit.benchmarking.timed import gpu_wait
from toolkit.bundle import Bundle
from toolkit.data.stage_clock import StageClock
from toolkit.engines.onnxruntime import OnnxRuntimeSession
from toolkit.engines.onnxruntime_profile import submodule_seconds
from toolkit.engines.session import Session
from toolkit.engines.torch import TorchSession
from toolkit.storage.outputs import temporary_folder

Seconds = list[dict[str, float]]
"""By submodule, for each frame."""


class SteppedTorchSession:
    """A torch session that runs submodule after submodule and measures each until the GPU has done it."""

    name = "torch"

    def __init__(self, session: TorchSession) -> None:
        self.upload, self.download, self.finite = session.upload, session.download, session.finite
        self.seconds: Seconds = []
        self._session = session
        self._clock, self._wait = StageClock[str](), gpu_wait()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tensors = dict(inputs)
        self._wait()
        self._clock.skip()
        for submodule in self._session.submodules:
            tensors |= self._session.run_submodule(submodule, tensors)
            self._wait()
            self._clock.lap(submodule.name)
        self.seconds.append(self._clock.take())
        return tensors


def seconds_by_submodule(bundle: Bundle, session: Session, run: Callable[[Session], None]) -> Seconds:
    """What each submodule takes in each of the frames that `run` runs; nothing for a session that cannot tell."""
    if type(session) is TorchSession:
        stepped = SteppedTorchSession(session)
        run(stepped)
        return stepped.seconds
    if isinstance(session, OnnxRuntimeSession):
        with temporary_folder("benchmark") as folder:
            profiled = OnnxRuntimeSession(bundle, profile=folder / "profile")
            run(profiled)
            return submodule_seconds(profiled.end_profile(), [s.name for s in bundle.submodules])
    return []
