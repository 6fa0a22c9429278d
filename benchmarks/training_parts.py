"""Where the time of a training step goes, part by part."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from toolkit.training.clip import Clip
from toolkit.training.clip_model import ClipModel, total
from toolkit.training.config import TrainingConfig
from toolkit.training.optimiser import make_optimiser
from toolkit.training.packing import pack
from toolkit.training.run import figures
from toolkit.training.spec import Training
from toolkit.training.update import MakeUpdate, PlainUpdate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

UPLOAD, BACKWARD, OPTIMISER = "upload of the clip", "backward", "optimiser"
WITHOUT_GRADIENT = "{}, without gradient"
OTHER = "between submodules"


@dataclass(frozen=True)
class Parts:
    """Seconds of each part of a step; of submodules also those `within` their modules."""

    seconds: Mapping[str, float]
    within: Mapping[str, float]

    @classmethod
    def median(cls, steps: Sequence[Parts]) -> Parts:
        """Of each part on its own."""
        return cls(
            {name: float(np.median([each.seconds[name] for each in steps])) for name in steps[0].seconds},
            {name: float(np.median([each.within[name] for each in steps])) for name in steps[0].within},
        )


class Clock:
    """Sums up seconds by part; the GPU is waited for at both ends of each."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.within: dict[str, float] = {}
        self._wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
        self._part = ""
        self._depth, self._entered, self._watching = 0, 0.0, False

    def now(self) -> float:
        """Seconds, when all work is done."""
        self._wait()
        return time.perf_counter()

    def timed(self, name: str, call: Callable[[], Any]) -> Any:
        """What a call returns."""
        self._part, started = name, self.now()
        result = call()
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - started
        return result

    def training(self, name: str, training: Training) -> Training:
        """A submodule's training whose steps are timed."""

        def timed(step: Callable[[nn.Module, Any], Any]) -> Callable[[nn.Module, Any], Any]:
            def timed_step(module: nn.Module, frames: Any) -> Any:
                part = name if torch.is_grad_enabled() else WITHOUT_GRADIENT.format(name)
                if self._watching:
                    self.within.setdefault(part, 0.0)
                return self.timed(part, lambda: step(module, frames))

            return timed_step

        together = None if training.together is None else timed(training.together)
        return replace(training, step=timed(training.step), together=together)

    def watch(self, parts: nn.Module) -> None:
        """Time the outermost calls of modules."""
        self._watching = True
        for module in parts.modules():
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        if self._depth == 0:
            self._entered = self.now()
        self._depth += 1

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.within[self._part] += self.now() - self._entered

    def take(self) -> Parts:
        """Of one step; the next one begins."""
        taken = Parts(self.seconds, self.within)
        self.seconds, self.within = {}, {}
        return taken


def time_parts(
    model: ClipModel,
    clips: Sequence[Clip],
    training: TrainingConfig,
    fabric: Fabric,
    make_update: MakeUpdate = PlainUpdate,
    *,
    within: bool,
) -> Iterator[Parts]:
    """Step after step, as `train` does them in one process; the model is of no use for anything else then.

    Times `within` modules are taken by hooks, which would be compiled with modules that are.
    """
    clock = Clock(fabric.device)
    model.trained = {name: clock.training(name, trained) for name, trained in model.trained.items()}
    if within:
        clock.watch(model.network.parts)
    update = make_update(make_optimiser(model.named_parameters(), training), training.gradient_norm)
    for clip in cycle(list(map(pack, clips))):
        on_device = clock.timed(UPLOAD, partial(clip.to, fabric.device))
        with torch.enable_grad(), fabric.autocast():
            started = clock.now()
            losses = model(on_device)
            figures(losses)
            summed = total(losses)
            whole = clock.now() - started
        forward = sum(seconds for name, seconds in clock.seconds.items() if name != UPLOAD)
        clock.seconds[OTHER] = whole - forward
        clock.timed(BACKWARD, summed.backward)
        clock.timed(OPTIMISER, update)
        yield clock.take()
