"""Whether a run can go on from one of its checkpoints, and that it does so with the same optimiser."""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.training.clip_model import ClipModel
from toolkit.training.config import TrainingConfig
from toolkit.training.optimiser import BASE
from toolkit.training.run_checkpoint import RunCheckpoint


def saved_weights(network: Network) -> dict[str, Tensor]:
    """What a checkpoint holds of a network: everything but assets."""
    assets = {asset.key for submodule in network.graph.submodules for asset in submodule.assets}
    return {key: value for key, value in network.weights().items() if key not in assets}


def require_reached(start: RunCheckpoint, per_epoch: int, config: TrainingConfig) -> None:
    """Raise InputError unless a run of `per_epoch` clips for each process comes to where the checkpoint is."""
    at = start.position
    whole_steps = at.step * config.accumulate == at.epoch * per_epoch + at.clips
    if at.epoch + (at.clips > 0) > config.epochs or at.clips > per_epoch or not whole_steps:
        raise InputError(
            f"checkpoint {start.path} is at step {at.step}, {at.clips} clips after epoch {at.epoch}, where a run of "
            f"{config.epochs} epochs of {per_epoch} clips never is; remove it, or start a new run with --init"
        )


def restore(start: RunCheckpoint, model: ClipModel, optimiser: torch.optim.Optimizer) -> None:
    """Give the optimiser what the checkpoint holds of its state; its settings stay those of the run.

    Raises InputError if the checkpoint is of another network or optimiser, or incomplete.
    """
    if missing := sorted(saved_weights(model.network).keys() - start.state_dict.keys()):
        raise InputError(f"checkpoint {start.path} is of another network: it lacks {missing[0]}")
    own = optimiser.state_dict()["param_groups"]
    try:
        saved = start.optimiser["param_groups"]
        if [group["params"] for group in saved] != [group["params"] for group in own]:
            raise ValueError("its optimiser has other parameters")
        if any(group.get(BASE) != other[BASE] for group, other in zip(saved, own, strict=True)):
            raise InputError(f"checkpoint {start.path} holds another optimiser; start a new run with --init")
        optimiser.load_state_dict({"state": start.optimiser["state"], "param_groups": own})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"checkpoint {start.path} is of another network: {error!s:.200}") from error
    sound = all(is_state(parameter, values, start.position.step) for parameter, values in optimiser.state.items())
    if not sound or (start.position.step > 0 and not optimiser.state):
        raise InputError(f"checkpoint {start.path} holds a damaged state of the optimiser; start a new run with --init")


def is_state(parameter: object, values: object, steps: int) -> bool:
    """Whether `values` is what AdamW keeps of a parameter, after at most so many steps."""
    if not isinstance(parameter, Tensor) or not isinstance(values, dict):
        return False
    shapes = {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
    if values.keys() != shapes.keys() or not all(isinstance(value, Tensor) for value in values.values()):
        return False
    return all(values[name].shape == shape for name, shape in shapes.items()) and 1 <= values["step"].item() <= steps
