"""From what a network gives for a frame to typed results: work for the host, in whatever process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.data.frames import Frame
from toolkit.runtime.repairs import Repairs
from toolkit.runtime.results import FrameResult, frame_result, unknown_result
from toolkit.specs import Interpretation, Refinement, Submodule, Tensors

Postprocess = Callable[[Tensors, ModelConfig], Tensors]


@dataclass(frozen=True, eq=False)
class FrameOutputs:
    """The `tensors` that a network reports for a frame, by name, and the frame's result, of which they say the rest."""

    result: FrameResult
    tensors: Tensors

    @classmethod
    def of(cls, frame: Frame, tensors: Tensors, repairs: Repairs) -> FrameOutputs:
        """Of a frame, whose pictures are not kept."""
        return cls(unknown_result(frame, repairs), tensors)


@dataclass(frozen=True, eq=False)
class Interpreter:
    """Post-processes and interprets a network's outputs; `refinements` change the results after that."""

    config: ModelConfig
    postprocesses: Sequence[Postprocess]
    interpretations: Sequence[Interpretation]
    refinements: Sequence[Refinement] = ()

    @classmethod
    def of(cls, bundle: Bundle, submodules: Sequence[Submodule], refinements: Sequence[Refinement] = ()) -> Interpreter:
        """For a bundle. Of `submodules`, those that it has post-process."""
        names = {record.name for record in bundle.submodules}
        postprocesses = [s.postprocess for s in submodules if s.name in names and s.postprocess is not None]
        return cls(bundle.config, postprocesses, interpretations_of(bundle, submodules), refinements)

    def __call__(self, outputs: FrameOutputs) -> FrameResult:
        """All results of the frame."""
        tensors = dict(outputs.tensors)
        for postprocess in self.postprocesses:
            tensors |= postprocess(tensors, self.config)
        result = frame_result(tensors, outputs.result, self.config, self.interpretations)
        for refinement in self.refinements:
            result = refinement.apply(result)
        return result


def interpretations_of(bundle: Bundle, submodules: Iterable[Submodule]) -> list[Interpretation]:
    """Those of the submodules, in the order in which the bundle produces what they need.

    Also of submodules that the bundle has others in place of: what these give under the same names means the same.
    """
    made = {tensor: i for i, record in enumerate(bundle.submodules) for tensor in record.outputs}

    def last_made(interpretation: Interpretation) -> int:
        return max((made[name] for name in interpretation.needs if name in made), default=-1)

    return sorted((s.interpretation for s in submodules if s.interpretation is not None), key=last_made)
