"""GPU memory of an engine's inputs and outputs, through CuPy, in which a frame's state becomes the next frame's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.engines.tensorrt.sidecar import EngineTensor

SLOTS = 2


class Buffers:
    """A buffer for every input, and two for every output, used in turn.

    While one frame writes its outputs to one slot, it reads the state where the frame before left it, in the other.
    So state is never copied, and every buffer keeps its address, as CUDA graphs need it.
    """

    def __init__(self, cupy: Any, tensors: Sequence[EngineTensor]) -> None:
        self._inputs = {t.name: cupy.zeros(t.shape, t.dtype) for t in tensors if t.mode == "input"}
        outputs = [t for t in tensors if t.mode == "output"]
        self._slots = [{t.name: cupy.zeros(t.shape, t.dtype) for t in outputs} for _ in range(SLOTS)]
        self._slot = 0

    @property
    def inputs(self) -> Mapping[str, Any]:
        return self._inputs

    @property
    def outputs(self) -> dict[str, Any]:
        """Those of the frame that runs, or ran last."""
        return dict(self._slots[self._slot])

    def next_frame(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Turn to the other slot; the tensor that each input is read from in this frame.

        A given tensor that is an output of the frame before is read where it is. Any other is copied to the input's
        own buffer.
        """
        before = {id(tensor) for tensor in self._slots[self._slot].values()}
        self._slot = (self._slot + 1) % SLOTS
        sources = {}
        for name, buffer in self._inputs.items():
            if id(given[name]) in before:
                sources[name] = given[name]
            else:
                buffer[...] = given[name]
                sources[name] = buffer
        return sources
