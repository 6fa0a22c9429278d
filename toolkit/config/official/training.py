"""What an official config says of how its model is trained: the optimiser, the schedule, and the losses.

Losses and matching have the weights that the reference's configs give them; a config with others is refused, for it
would be trained to something else without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.config.official.keys import ABSENT, lookup
from toolkit.errors import InputError
from toolkit.text import quoted

TRACK, SEG, OCC, MOTION, PLAN = (
    "model.loss_cfg", "model.seg_head", "model.occ_head", "model.motion_head", "model.planning_head",
)  # fmt: skip
CODE_WEIGHTS = [1.0] * 8 + [0.2] * 2
TRAINED: Mapping[str, tuple[Any, ...]] = {
    "optimizer.type": ("AdamW",),
    "lr_config.policy": ("CosineAnnealing",),
    "lr_config.warmup": ("linear", None),
    "optimizer_config.grad_clip.norm_type": (2,),
    "model.gt_iou_threshold": (0.3,),
    "model.qim_args.merger_dropout": (0,),
    f"{TRACK}.code_weights": (CODE_WEIGHTS,),
    f"{TRACK}.weight_dict": (None,),
    f"{TRACK}.assigner.cls_cost.weight": (2.0,),
    f"{TRACK}.assigner.reg_cost.weight": (0.25,),
    f"{TRACK}.loss_cls.gamma": (2.0,),
    f"{TRACK}.loss_cls.alpha": (0.25,),
    f"{TRACK}.loss_cls.loss_weight": (2.0,),
    f"{TRACK}.loss_bbox.loss_weight": (0.25,),
    f"{SEG}.loss_cls.loss_weight": (2.0,),
    f"{SEG}.loss_bbox.loss_weight": (5.0,),
    f"{SEG}.loss_iou.loss_weight": (2.0,),
    f"{SEG}.loss_mask.loss_weight": (2.0,),
    f"{OCC}.loss_mask.top_k_ratio": (0.25,),
    f"{OCC}.loss_mask.future_discount": (0.95,),
    f"{OCC}.loss_mask.loss_weight": (5.0,),
    f"{OCC}.loss_dice.eps": (1.0,),
    f"{OCC}.loss_dice.loss_weight": (1.0,),
    f"{OCC}.aux_loss_weight": (1.0,),
    f"{MOTION}.loss_traj.cls_loss_weight": (0.5,),
    f"{MOTION}.loss_traj.nll_loss_weight": (0.5,),
    f"{MOTION}.loss_traj.loss_weight_minade": (0.0,),
    f"{MOTION}.loss_traj.loss_weight_minfde": (0.25,),
}
"""Supported values of keys that decide what is trained; all may be absent."""
COLLISIONS = ((0.0, 2.5), (0.5, 1.0), (1.0, 0.25))
"""Of the planner's collision losses: by how much the ego is widened (m), and the weight."""
PAST_PATHS = {1: 0.0, 2: 1.0}
"""Weight of the loss of past trajectories in each stage; the second's config leaves the key out."""


def training_values(values: Mapping[str, Any], stage: int) -> dict[str, Any]:
    """Fields of a `TrainingConfig` that the names of an official config state.

    Raises InputError that names, an argument each, what is not supported.
    """
    faults = [*_faults(values, stage)]
    if faults:
        raise InputError(*faults)
    return {"stage": stage} | {name: value for name, value in _stated(values) if value is not ABSENT}


def _faults(values: Mapping[str, Any], stage: int) -> Iterator[str]:
    for key, supported in TRAINED.items():
        value = lookup(values, key)
        value = list(value) if isinstance(value, tuple) else value
        if value is not ABSENT and value not in supported:
            yield f"{key} is {quoted(value)}; training supports {' or '.join(map(quoted, supported))}"
    past = lookup(values, f"{TRACK}.loss_past_traj_weight")
    if past is not ABSENT and past != PAST_PATHS[stage]:
        yield f"{TRACK}.loss_past_traj_weight is {quoted(past)}; training of stage {stage} supports {PAST_PATHS[stage]}"
    collisions = lookup(values, f"{PLAN}.loss_collision")
    if collisions is not ABSENT:
        stated = [(lookup(each, "delta"), lookup(each, "weight")) for each in collisions or ()]
        if stated != list(COLLISIONS):
            yield f"{PLAN}.loss_collision is {quoted(collisions)}; training supports delta, weight {quoted(COLLISIONS)}"


def _stated(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    factors = lookup(values, "optimizer.paramwise_cfg.custom_keys")
    if isinstance(factors, dict):
        rates = {key: part["lr_mult"] for key, part in factors.items() if isinstance(part, dict) and "lr_mult" in part}
        yield "learning_rate_factors", rates
    elif factors is ABSENT and lookup(values, "optimizer") is not ABSENT:
        yield "learning_rate_factors", {}
    yield "epochs", _first(values, "runner.max_epochs", "total_epochs")
    yield "queue_length", _first(values, "data.train.queue_length", "queue_length", "model.queue_length")
    yield "accumulate", lookup(values, "data.samples_per_gpu")
    yield "learning_rate", lookup(values, "optimizer.lr")
    yield "weight_decay", lookup(values, "optimizer.weight_decay")
    yield "gradient_norm", lookup(values, "optimizer_config.grad_clip.max_norm")
    yield "warmup_steps", lookup(values, "lr_config.warmup_iters")
    yield "warmup_ratio", lookup(values, "lr_config.warmup_ratio")
    yield "final_ratio", lookup(values, "lr_config.min_lr_ratio")


def _first(values: Mapping[str, Any], *keys: str) -> Any:
    """The value of the first key that is there."""
    return next((found for key in keys if (found := lookup(values, key)) is not ABSENT), ABSENT)
