"""A training run: clips go through the network, and the optimiser steps, until the last epoch or a stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from toolkit.errors import CheckFailed, InputError
from toolkit.stops import stops_held
from toolkit.text import one_line
from toolkit.training.clip import Clip
from toolkit.training.clip_model import ClipModel, means, total
from toolkit.training.clips import Clips, Share, places
from toolkit.training.config import TrainingConfig
from toolkit.training.journal import Journal, StepRecord
from toolkit.training.loading import Order, packed_clips
from toolkit.training.optimiser import make_optimiser, schedule, set_rates
from toolkit.training.packing import PackedClip
from toolkit.training.resuming import require_reached, restore, saved_weights
from toolkit.training.run_checkpoint import EPOCH_FILE, STOPPED_FILE, Position, RunCheckpoint, save_checkpoint
from toolkit.training.spec import is_trained
from toolkit.training.update import MakeUpdate, PlainUpdate, Update

if TYPE_CHECKING:
    from lightning_fabric import Fabric

DEAD_WORKER = "DataLoader worker"
"""How torch begins what it says of one that has ended."""


@dataclass(frozen=True)
class Run:
    """A run and where it writes. `workers` are processes that make clips for each process that trains; `pinned` ones
    lie in page-locked memory, where there is a GPU.

    After `steps` of the optimiser in all it ends, as if it had been stopped; None for no such end. `told` hears of
    every step, and `epoch_ended` of every epoch's checkpoint and how many epochs there were, both in the first process.
    `make_update` is of what steps the optimiser.
    """

    folder: Path
    config: TrainingConfig
    workers: int = 0
    pinned: bool = False
    steps: int | None = None
    told: Callable[[StepRecord], None] = lambda record: None
    epoch_ended: Callable[[Path, int], None] = lambda path, epoch: None
    make_update: MakeUpdate = PlainUpdate


@torch.enable_grad()
def train(run: Run, model: ClipModel, clips: Clips, fabric: Fabric, start: RunCheckpoint | None = None) -> Path:
    """Train, and return the last checkpoint. A stop leaves one as well, before it takes effect.

    Raises InputError if there are no clips, or for a `start` of another network or past `run.steps`; CheckFailed if a
    loss is not finite.
    """
    if not len(clips):
        raise InputError("there is no clip to train on: no scene has so many key frames with ground truth in a row")
    config = run.config
    share = Share(fabric.global_rank, fabric.world_size)
    torch.manual_seed(config.seed + share.rank)
    position = Position() if start is None else start.position
    optimiser = make_optimiser(model.named_parameters(), config)
    wrapped, wrapped_optimiser = fabric.setup(_OfEnclosed(model), optimiser)
    per_epoch = len(places(len(clips), 0, config.seed, share, config.accumulate))
    if start is not None:
        require_reached(start, per_epoch, config)
        if run.steps is not None and position.step >= run.steps:
            raise InputError(
                f"--steps {run.steps} are of the whole run, of which checkpoint {start.path} has made {position.step}; "
                "ask for more, or leave --steps out"
            )
        restore(start, model, optimiser)
    update = run.make_update(wrapped_optimiser, config.gradient_norm)
    journal = Journal(run.folder, position.step) if share.rank == 0 else None
    random_state = torch.get_rng_state() if start is None else start.random_state
    state = _State(run, model, optimiser, position, random_state)
    checkpoint = run.folder / EPOCH_FILE.format(position.epoch)
    epochs = range(position.epoch, config.epochs)
    order = Order(
        epochs, lambda epoch: places(len(clips), epoch, config.seed, share, config.accumulate), position.clips
    )
    source = packed_clips(clips, order, run.workers, pinned=run.pinned and fabric.device.type == "cuda")
    try:
        for epoch in epochs:
            for record in _epoch(state, wrapped, update, source, fabric, epoch, per_epoch):
                if journal is not None:
                    journal.write(record)
                    run.told(record)
                if state.position.step == run.steps:
                    raise _EnoughSteps
            state.position = replace(state.position, epoch=epoch + 1, clips=0)
            checkpoint = run.folder / EPOCH_FILE.format(epoch + 1)
            if journal is not None:
                state.save(checkpoint)
                journal.draw()
                run.epoch_ended(checkpoint, epoch + 1)
    except (KeyboardInterrupt, _EnoughSteps, RuntimeError) as stop:
        if isinstance(stop, RuntimeError) and DEAD_WORKER not in str(stop):
            raise
        checkpoint = run.folder / STOPPED_FILE
        if journal is not None:
            state.save(checkpoint)
            journal.draw()
        if isinstance(stop, KeyboardInterrupt):
            raise
        if isinstance(stop, RuntimeError):
            raise CheckFailed(
                f"a process that makes clips has ended, perhaps for want of memory ({one_line(stop):.150}); "
                f"{checkpoint} is of the last step. Go on with --resume, and fewer --workers"
            ) from stop
    finally:
        source.close()  # else workers that are still there when Python ends are reported as lost
    return checkpoint


class Enclosed:
    """A clip that libraries pass on as it is; they would look into a dataclass, and change the types of its tensors."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip


class _OfEnclosed(nn.Module):
    """The model, of enclosed clips."""

    def __init__(self, model: ClipModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, enclosed: Enclosed) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model(enclosed.clip)
        return losses


class _EnoughSteps(Exception):
    """The run has made the steps that were asked for."""


def steps_in_all(clips: int, config: TrainingConfig, world: int) -> int:
    """Steps of the optimiser from the first to the last epoch."""
    return config.epochs * -(-clips // (world * config.accumulate))


@dataclass
class _State:
    """What a run is at, as of its last whole step."""

    run: Run
    model: ClipModel
    optimiser: torch.optim.Optimizer
    position: Position
    random_state: Tensor

    def save(self, path: Path) -> None:
        """Write a checkpoint; as in the reference's, assets are no part of it."""
        config = asdict(self.run.config)
        network = self.model.network
        with stops_held():
            weights = saved_weights(network)
            save_checkpoint(path, weights, self.optimiser.state_dict(), self.position, self.random_state, config)


def _epoch(
    state: _State,
    model: Callable[[Enclosed], Mapping[str, Tensor]],
    update: Update,
    source: Iterator[PackedClip],
    fabric: Fabric,
    epoch: int,
    count: int,
) -> Iterator[StepRecord]:
    """The steps of an epoch of `count` clips that are still to be made; `state` follows."""
    config = state.run.config
    torch.set_rng_state(state.random_state)
    for _ in range((count - state.position.clips) // config.accumulate):
        set_rates(state.optimiser, factor := schedule(state.position.step, epoch, config))
        started, waited = time.perf_counter(), 0.0
        sums: dict[str, float] = {}
        for number in range(config.accumulate):
            asked = time.perf_counter()
            clip = next(source).to(fabric.device)
            waited += time.perf_counter() - asked
            last = number == config.accumulate - 1
            averaged = last and not update.averages
            with nullcontext() if averaged else fabric.no_backward_sync(model):  # type: ignore[arg-type]
                try:
                    losses = model(Enclosed(clip))
                except ArithmeticError as error:
                    raise _broken(str(error), clip, state) from error
                values = figures(losses)
                require_finite(values, clip, state)
                fabric.backward(total(losses) / config.accumulate)
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value / config.accumulate
        with stops_held():
            norm = update()
            seen = state.position.clips + config.accumulate
            state.position = replace(state.position, step=state.position.step + 1, clips=seen)
            state.random_state = torch.get_rng_state()
        yield StepRecord(
            epoch=epoch + 1,
            step=state.position.step,
            learning_rate=config.learning_rate * factor,
            total=sum(value for name, value in sums.items() if is_trained(name)),
            gradient_norm=float(norm),
            seconds=time.perf_counter() - started,
            waited=waited,
            losses=sums,
        )


@torch.no_grad()
def figures(losses: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean of each loss and figure on the host; all leave the device at once."""
    names, values = means(losses)
    found = dict(zip(names, values.tolist(), strict=True))
    return {name: found[name] for name in losses}


def require_finite(values: Mapping[str, float], clip: Clip, state: _State) -> None:
    """Raise CheckFailed, with a checkpoint of before, if a loss is NaN or infinite."""
    for name, value in values.items():
        if is_trained(name) and not math.isfinite(value):
            raise _broken(f"{name} is {value}", clip, state)


def _broken(what: str, clip: Clip, state: _State) -> CheckFailed:
    """The end of a run by something that is not finite, which leaves a checkpoint of before."""
    state.save(path := state.run.folder / STOPPED_FILE)
    return CheckFailed(
        f"{what} in clip {clip.name}, step {state.position.step + 1}; {path} is from before it. Lower the learning "
        "rate, or look at the clip's ground truth"
    )
