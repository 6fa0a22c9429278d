"""What a session says about one frame, as far as gates of quantization judge it: few numbers, to be kept of each frame.

They are read from typed results (`FrameResult`), so that no tensor needs to be known by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.bundle import Bundle
from toolkit.data.frames import Command
from toolkit.engines.session import Session
from toolkit.runtime.interpreter import FrameOutputs, Interpreter
from toolkit.runtime.results import FrameResult, Mask
from toolkit.specs import Submodule, Tensors
from toolkit.verification.observation import Observation, Observer


@dataclass(frozen=True)
class Cells:
    """Cells of a grid, of `size` in all, and how many of them something fills."""

    filled: int
    size: int


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame of a drive.

    Objects have `ids` [n], `labels` and `places` [n, 2] (m); `grids` are by the names of the results' fields; `plan`
    [steps, 2] (m) is None without a planner. `norms` are root mean squares of the state's floats, by the tensors that
    leave the network; `broken` names tensors that are not finite, of which nothing else is read. A scene begins with a
    frame that is no continuation.
    """

    continues: bool
    ids: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    places: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    grids: Mapping[str, Cells] = field(default_factory=dict)
    plan: NDArray[np.float32] | None = None
    norms: Mapping[str, float] = field(default_factory=dict)
    broken: tuple[str, ...] = ()


def watch(
    bundle: Bundle, session: Session, submodules: Sequence[Submodule], frames: Iterable[Mapping[str, np.ndarray]]
) -> Iterator[Seen]:
    """Run frames with the session's own state fed back, and say what is seen in each.

    The state is left as it is, so that a value that is not finite shows in all frames that follow.
    """
    observer, sight = Observer(bundle, session), Sight(bundle, submodules)
    return (sight.of(observer.step(frame)) for frame in frames)


class Sight:
    """How to read a bundle's frames, with the postprocessing and the interpretations of these submodules."""

    def __init__(self, bundle: Bundle, submodules: Sequence[Submodule]) -> None:
        self._interpret = Interpreter.of(bundle, submodules)
        produced = {spec.name: spec.dtype for spec in bundle.results}
        self._results = list(produced)
        self._states = sorted({s.source for s in bundle.states if produced.get(s.source, "").startswith("float")})

    def of(self, frame: Observation) -> Seen:
        """What the outputs of a frame say."""
        outputs = {name: frame.outputs[name] for name in self._results}
        continues = bool(np.all(frame.inputs.get("use_previous", 1)))
        broken = tuple(name for name, array in outputs.items() if not np.isfinite(array).all())
        if broken:
            return Seen(continues, broken=broken)
        result = self._result(outputs)
        return Seen(
            continues,
            ids=tuple(box.track_id for box in result.boxes),
            labels=tuple(box.label for box in result.boxes),
            places=np.array([box.center[:2] for box in result.boxes], np.float64).reshape(-1, 2),
            grids={name: Cells(int(np.count_nonzero(mask)), mask.size) for name, mask in _masks(result)},
            plan=None if result.plan is None else result.plan.points,
            norms={name: float(np.sqrt(np.mean(np.square(outputs[name], dtype=np.float64)))) for name in self._states},
        )

    def masks(self, frame: Observation) -> dict[str, Mask]:
        """The grids of a frame whose outputs are finite, cell by cell."""
        return dict(_masks(self._result({name: frame.outputs[name] for name in self._results})))

    def _result(self, outputs: Tensors) -> FrameResult:
        unknown = FrameResult(frame="", scene="", timestamp=0.0, command=Command.STRAIGHT)
        return self._interpret(FrameOutputs(unknown, outputs))


def _masks(result: FrameResult) -> Iterator[tuple[str, Mask]]:
    """The grids of a result, by what they show."""
    if result.map is not None:
        yield "lanes", result.map.lanes
        yield "drivable area", result.map.drivable
    if result.occupancy is not None:
        yield "occupied cells", result.occupancy.cells
