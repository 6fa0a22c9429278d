"""The network over a clip: every frame through every submodule's training step, and the losses of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from toolkit.network import Network
from toolkit.specs import Submodule
from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.spec import Calls, Direct, Moment, Option, Step, Tensors, Training, is_trained


class ClipModel(nn.Module):
    """A network that is trained in a stage; `options` are those of each submodule by its name.

    A submodule that does not say how it is trained runs as in inference, without gradient. Clips are computed `within`
    a context, as one that quantizes (`toolkit.quantization.fake`).
    """

    def __init__(
        self,
        network: Network,
        stage: int,
        options: Mapping[str, Mapping[str, Option]],
        within: AbstractContextManager[object] | None = None,
    ) -> None:
        super().__init__()
        self.calls: Calls = Direct()
        self.network, self.stage, self.options = network, stage, options
        self._within = nullcontext() if within is None else within
        self.trained: dict[str, Training] = {
            each.name: each.training() for each in network.graph.submodules if each.training is not None
        }
        self._before_frames = self._needed_by({name for name, training in self.trained.items() if training.history})
        network.requires_grad_(True)
        for name in network.parts.keys() - self.trained.keys():
            network.parts[name].requires_grad_(False)
        self.train()
        self._fixed = [each for each in network.graph.submodules if self._is_fixed(each)]
        self._ahead = self._computed_ahead()

    def train(self, mode: bool = True) -> Self:
        """Training mode, except for what the submodules keep out of it; or evaluation mode throughout."""
        super().train(mode)
        for name, part in self.network.parts.items():
            if name not in self.trained:
                part.eval()
            elif mode and (prepare := self.trained[name].prepare) is not None:
                prepare(part, self.stage, self.options.get(name, {}))
        parts = [self.network.parts[name] for name in self._before_frames]
        self._training = [module for part in parts for module in part.modules() if module.training]
        return self

    def forward(self, clip: Clip) -> dict[str, Tensor]:
        """The losses and figures of a clip by their official names."""
        with self._within:
            return self._losses(clip)

    def _losses(self, clip: Clip) -> dict[str, Tensor]:
        self.calls.begin()
        losses: dict[str, Tensor] = {}
        states: dict[str, Tensors | None] = {}
        histories: dict[str, Tensors | None] = {}
        with torch.no_grad():
            frames, _ = self._with_steps(self._fixed, clip.frames)
        past = self._past(frames[: max(len(frames) - 1, 1)])
        frames, ahead = self._with_steps(self._ahead, frames)
        for index, frame in enumerate(frames):
            if index != 1:  # for the second frame the history is what it was for the first
                histories = self._history(past[max(index - 1, 0)], histories)
            tensors = dict(frame.inputs)
            losses |= ahead[index]
            last = index == len(frames) - 1
            for submodule in self.network.graph.submodules:
                if submodule in self._fixed or submodule in self._ahead:
                    continue
                state = histories.get(submodule.name, states.get(submodule.name))
                step = self._step(submodule, tensors, frame.truth, state, index, last=last)
                tensors |= step.tensors
                losses |= step.losses
                states[submodule.name] = step.state
        return losses

    @torch.no_grad()
    def _history(self, frame: ClipFrame, before: Mapping[str, Tensors | None]) -> dict[str, Tensors | None]:
        """The states of the submodules with a history after one more frame, as `_past` gives it."""
        tensors, states = dict(frame.inputs), {}
        with evaluated(self._training):
            for submodule in self.network.graph.submodules:
                done = submodule in self._fixed or submodule in self._ahead
                if submodule.name in self._before_frames and not done:
                    step = self._step(submodule, tensors, frame.truth, before.get(submodule.name), 0, last=False)
                    tensors |= step.tensors
                    if self.trained[submodule.name].history:
                        states[submodule.name] = step.state
        return states

    @torch.no_grad()
    def _past(self, frames: Sequence[ClipFrame]) -> Sequence[ClipFrame]:
        """The frames as histories see them, with what is computed for all of them at once."""
        needed = [each for each in self._ahead if each.name in self._before_frames]
        with evaluated(self._training):
            return self._with_steps(needed, frames)[0]

    def _with_steps(
        self, submodules: Sequence[Submodule], frames: Sequence[ClipFrame]
    ) -> tuple[Sequence[ClipFrame], list[Tensors]]:
        """The frames with what these submodules give for each among its inputs, and each frame's losses."""
        losses: list[Tensors] = [{} for _ in frames]
        for submodule in submodules:
            training = self.trained[submodule.name]
            part, options = self.network.parts[submodule.name], self.options.get(submodule.name, {})
            moments = [
                Moment(
                    frame.inputs, frame.truth, None, index, index == len(frames) - 1, self.stage, options, self.calls
                )
                for index, frame in enumerate(frames)
            ]
            if training.together is None or _learns_statistics(part):
                steps: Sequence[Step] = [training.step(part, moment) for moment in moments]
            else:
                steps = training.together(part, moments)
            frames = [
                ClipFrame({**frame.inputs, **step.tensors}, frame.truth)
                for frame, step in zip(frames, steps, strict=True)
            ]
            losses = [{**before, **step.losses} for before, step in zip(losses, steps, strict=True)]
        return frames, losses

    def _computed_ahead(self) -> list[Submodule]:
        """The submodules that are not fixed, but can be run for all frames of a clip at once before anything else."""
        ahead: list[Submodule] = []
        known = {spec.name for each in self._fixed for spec in each.outputs}
        made = {spec.name for each in self.network.graph.submodules for spec in each.outputs}
        for submodule in self.network.graph.submodules:
            training = self.trained.get(submodule.name)
            if training is None or training.together is None or submodule in self._fixed:
                continue
            if made.isdisjoint(set(submodule.reads) - known) and not _learns_statistics(
                self.network.parts[submodule.name]
            ):
                ahead.append(submodule)
                known |= {spec.name for spec in submodule.outputs}
        return ahead

    def _is_fixed(self, submodule: Submodule) -> bool:
        """Whether the submodule gives the same for a frame each time that it is asked."""
        part = self.network.parts[submodule.name]
        return (
            submodule.name in self.trained
            and self.trained[submodule.name].by_frame
            and not any(module.training for module in part.modules())
            and not any(parameter.requires_grad for parameter in part.parameters())
        )

    def _needed_by(self, names: set[str]) -> set[str]:
        """These submodules, and all that they read from in the same frame."""
        producers = {spec.name: each.name for each in self.network.graph.submodules for spec in each.outputs}
        needed = set(names)
        for submodule in reversed(self.network.graph.submodules):
            if submodule.name in needed:
                needed |= {producers[name] for name in submodule.reads if name in producers}
        return needed

    def _step(
        self, submodule: Submodule, tensors: Tensors, truth: Tensors, state: Tensors | None, index: int, *, last: bool
    ) -> Step:
        if submodule.name not in self.trained:
            with torch.no_grad():
                return Step(self.network.run_submodule(submodule, tensors))
        options = self.options.get(submodule.name, {})
        moment = Moment(tensors, truth, state, index, last, self.stage, options, self.calls)
        return self.trained[submodule.name].step(self.network.parts[submodule.name], moment)


def _learns_statistics(part: nn.Module) -> bool:
    """Whether a module normalises by its batch, so that what it gives for a picture depends on the others."""
    return any(isinstance(each, nn.modules.batchnorm._BatchNorm) and each.training for each in part.modules())


@contextmanager
def evaluated(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Modules of training mode are in evaluation mode; only their flags change, for that is done for every frame.

    They change in the modules' own dictionaries: `Module.__setattr__` looks for parameters, hundreds of times a frame.
    """
    for module in modules:
        vars(module)["training"] = False
    try:
        yield
    finally:
        for module in modules:
            vars(module)["training"] = True


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """What is trained on: the sum of the means of all entries with "loss" in their name; NaN counts as 0."""
    _, values = means({name: value for name, value in losses.items() if is_trained(name)})
    return torch.where(values.isnan(), 0, values).sum()


def means(losses: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Names in some order, and the mean of each, of the widest of their types.

    Most losses are a single number already. What is of one type is put together first: converted one by one, they would
    take a kernel each.
    """
    groups: dict[torch.dtype, list[str]] = {}
    for name, value in losses.items():
        groups.setdefault(value.dtype, []).append(name)
    of_types = [
        torch.stack([losses[name].mean() if losses[name].ndim else losses[name] for name in names])
        for names in groups.values()
    ]
    return [name for names in groups.values() for name in names], torch.cat(of_types)


def without_randomness(network: nn.Module, options: Mapping[str, Mapping[str, Option]]) -> dict[str, dict[str, Option]]:
    """Switch all dropout of a network off; the options with those of random parts, which are numbers, at 0."""
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return {
        name: {key: value if isinstance(value, bool) else 0.0 for key, value in own.items()}
        for name, own in options.items()
    }
