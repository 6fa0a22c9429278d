"""Frames through a session with state fed back: the one loop that every session type shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.bundle import Bundle
from toolkit.data.pictures import IMAGE, PICTURES, pictures_spec
from toolkit.engines.session import PictureSession, Session
from toolkit.errors import InputError
from toolkit.runtime.repairs import NO_REPAIRS
from toolkit.runtime.state_guard import StateGuard, check_next_ids
from toolkit.specs import TensorSpec, reported_results


class TemporalRunner:
    """Feeds each frame's state tensors to the next frame, in the session's own memory.

    The first frame starts from zeros with `use_previous` = 0, unless `start` gave a state. A later frame with
    `use_previous` = 0 starts a new scene inside the network, which keeps counting track ids.

    A `PictureSession` may be given a frame's `pictures` instead of its `image`, which it prepares on its device.

    After each frame, values of the state that are not finite are taken out of it, unless `guarded` is False, for a
    comparison that must show what the network itself does. `repairs` says what the last frame needed; after a scene
    reset the next frame runs with `use_previous` = 0.
    """

    def __init__(self, bundle: Bundle, session: Session, *, guarded: bool = True) -> None:
        self.bundle = bundle
        self.session = session
        self.repairs = NO_REPAIRS
        self._guard = StateGuard(bundle, session) if guarded else None
        self._device = session if isinstance(session, PictureSession) else None
        self._dimensions = bundle.config.dimensions()
        pictures = pictures_spec(bundle.config.image)
        self._with_pictures = tuple(pictures if spec.name == IMAGE else spec for spec in bundle.frame_inputs)
        known = (*bundle.frame_inputs, pictures, *bundle.state_inputs)
        self._shapes = {spec.name: spec.resolve(self._dimensions) for spec in known}
        self._state: dict[str, Any] | None = None
        self._launched: dict[str, Any] = {}
        self._reported = [spec.name for spec in reported_results(bundle.results, bundle.states)]

    def start(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a given state: an array for every state input. Raises InputError if one is amiss."""
        self._check(self.bundle.state_inputs, state)
        check_next_ids(state, self.bundle.tables)
        self.repairs = NO_REPAIRS
        self._state = {spec.name: self.session.upload(state[spec.name]) for spec in self.bundle.state_inputs}

    def step(self, frame: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The named `outputs` of one frame as numpy arrays; by default all results but state and those on request.

        `frame` has an array for every frame input. Raises InputError for a missing or mis-shaped one. It is `prepare`,
        `launch` and `results`; whoever calls these can prepare a frame while the session runs the one before it.
        """
        self.launch(self.prepare(frame))
        return self.results(outputs)

    def prepare(self, frame: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A frame's inputs in the session's memory, whatever becomes of the frame before. Raises as `step` does."""
        specs = self._frame_specs(frame)
        self._check(specs, frame)
        return self._upload({spec.name: frame[spec.name] for spec in specs})

    def launch(self, fed: dict[str, Any]) -> None:
        """Have the session run a frame that was prepared, after the `results` of the one before it."""
        if self._state is None or self.repairs.scene_reset:
            fed = fed | self._zeros(spec for spec in self.bundle.frame_inputs if spec.name == "use_previous")
        state = self._zeros(self.bundle.state_inputs) if self._state is None else self._state
        self._launched = fed | self.session.run(fed | state)

    def results(self, outputs: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Of the frame that was launched, as `step` gives them."""
        results = {name: self.session.download(self._launched[name]) for name in outputs or self._reported}
        state = {state.input: self._launched[state.source] for state in self.bundle.states}
        self._state, self.repairs = self._guard.repair(state) if self._guard else (state, NO_REPAIRS)
        self._launched = {}
        return results

    def _frame_specs(self, frame: Mapping[str, np.ndarray]) -> tuple[TensorSpec, ...]:
        """What `frame` must hold."""
        if self._device is None or PICTURES not in frame or IMAGE in frame:
            return self.bundle.frame_inputs
        return self._with_pictures

    def _upload(self, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The frame inputs in the session's memory."""
        if self._device is None:
            return {name: self.session.upload(array) for name, array in inputs.items()}
        fed = self._device.upload_frame(inputs)
        if PICTURES in fed:
            fed[IMAGE] = self._device.prepare(fed.pop(PICTURES))
        return fed

    def _zeros(self, specs: Iterable[TensorSpec]) -> dict[str, Any]:
        """Tensors of zeros in the session's memory, as the state is before the first frame."""
        if self._device is None:
            return {spec.name: self.session.upload(spec.zeros(self._dimensions)) for spec in specs}
        return {spec.name: self._device.zeros(self._shapes[spec.name], spec.dtype) for spec in specs}

    def _check(self, specs: Sequence[TensorSpec], arrays: Mapping[str, np.ndarray]) -> None:
        for spec in specs:
            shape = self._shapes[spec.name]
            if spec.name not in arrays:
                raise InputError(f"input {spec.name!r} is missing; it is {spec.dtype}{list(shape)}: {spec.meaning}")
            array = arrays[spec.name]
            if array.shape != shape or array.dtype != spec.dtype:
                raise InputError(
                    f"input {spec.name!r} is {array.dtype}{list(array.shape)}; it must be {spec.dtype}{list(shape)}"
                )
