"""Deterministic stand-ins for trained weights and motion anchors, for a demonstration without any download.

The weights are random with the scales of a trained network, so that activations stay in range and a plausible number
of objects is found; they detect nothing real.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from toolkit.config.model import ModelConfig
from toolkit.data.probe import contrast
from toolkit.network import Network
from toolkit.specs import Submodule
from toolkit.weights.weight_files import write_pth
from toolkit.wiring import join

ASSET = "motion_head.motion_anchors"
FIRST_LAYER = "img_backbone.conv1.weight"
"""Takes pictures as they are normalised, whatever their contrast is then."""
CHECKPOINT, ANCHORS = "checkpoint.pth", "motion_anchors.npy"
Array = np.ndarray
Rule = Callable[[np.random.Generator, tuple[int, ...]], Array]

BOX_PRIOR = np.array([0, 0, math.log(1.9), math.log(4.5), 0, math.log(1.6), 0, 0, 0, 0])
"""Coded box of a car: offsets of x and y, log width, log length, offset of z, log height, sine, cosine, velocity."""
BOX_SPREAD = np.array([0.3, 0.3, 0.2, 0.2, 0.3, 0.2, 1.0, 1.0, 2.0, 2.0])


def write_pseudo_weights(
    folder: Path, submodules: Sequence[Submodule], config: ModelConfig, seed: int = 0
) -> tuple[Path, Path]:
    """Write a checkpoint for the network of these submodules, and motion anchors, into a folder; gives their paths."""
    weights = pseudo_trained_weights(Network(join(submodules, config)), seed)
    write_pth(folder / CHECKPOINT, {"state_dict": weights, "meta": {"note": "pseudo-trained"}})
    np.save(folder / ANCHORS, pseudo_motion_anchors(config))
    return folder / CHECKPOINT, folder / ANCHORS


def pseudo_trained_weights(network: Network, seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint's state dict for `network`: every entry drawn from its own generator, seeded by its key."""
    assets = {asset.key for submodule in network.graph.submodules for asset in submodule.assets}
    weights = {}
    for key, entry in network.weights().items():
        if key in assets:
            continue
        rng = np.random.default_rng((seed, zlib.crc32(key.encode())))
        rule = next(rule for pattern, rule in RULES if re.search(pattern, key))
        weights[key] = torch.from_numpy(np.asarray(rule(rng, tuple(entry.shape)))).to(entry.dtype)
    if FIRST_LAYER in weights:
        weights[FIRST_LAYER] /= contrast(network.graph.config.image)
    return weights


def pseudo_motion_anchors(config: ModelConfig) -> Array:
    """Goal trajectories float32 [groups, modes, steps, 2] (m, agent frame): a fan of speeds and turn rates."""
    motion = config.motion
    top_speeds = np.linspace(7.0, 1.0, len(motion.class_groups))
    shares = np.linspace(0.0, 1.0, motion.modes)
    turns = np.resize([0.0, 0.05, -0.05, 0.0, 0.25, -0.25], motion.modes)
    seconds = motion.step_seconds * np.arange(1, motion.steps + 1)
    heading = turns[:, None] * seconds
    distance = top_speeds[:, None, None] * shares[:, None] * seconds
    return np.stack((-distance * np.sin(heading / 2), distance * np.cos(heading / 2)), -1).astype(np.float32)


def _normal(std: float, mean: float = 0.0) -> Rule:
    return lambda rng, shape: mean + std * rng.standard_normal(shape)


def _constant(value: float) -> Rule:
    return lambda rng, shape: np.full(shape, value)


def _fan_in(gain: float) -> Rule:
    """Normal with variance gain² / fan-in."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return rng.standard_normal(shape) * (gain / math.sqrt(math.prod(shape[1:])))

    return draw


def _contrast(gain: float) -> Rule:
    """As `_fan_in`, with rows that sum to zero: blind to what all inputs share, as features after a ReLU do."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        weight = _fan_in(gain)(rng, shape)
        centred: Array = weight - weight.mean(-1, keepdims=True)
        return centred

    return draw


def _ring(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Sampling offsets [heads * points * 2]: each head looks its own way, each point one cell further."""
    angles = 2 * math.pi * np.arange(8) / 8
    directions = np.stack((np.cos(angles), np.sin(angles)), -1)
    reach = 1 + np.arange(shape[0] // 16) % 4
    offsets: Array = directions[:, None] * reach[:, None]
    return offsets.reshape(shape)


def _box_weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return BOX_SPREAD[:, None] / math.sqrt(shape[1]) * rng.standard_normal(shape)


def _displacements(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Plan steps [steps * 2] of about 2.5 m straight ahead."""
    return np.tile([0.0, 2.5], shape[0] // 2) + 0.05 * rng.standard_normal(shape)


RULES: tuple[tuple[str, Rule], ...] = (
    (r"num_batches_tracked$", _constant(0)),
    (r"running_mean$", _constant(0)),
    (r"running_var$", _constant(1)),
    (r"code_weights$", _constant(1)),
    (r"conv_offset\.weight$", _fan_in(0.5)),
    (r"sampling_offsets\.bias$", _ring),
    (r"sampling_offsets\.weight$", _fan_in(0.5)),
    (r"^pts_bbox_head\.cls_branches\.\d+\.6\.bias$", _normal(0.3, -4.5)),
    (r"^pts_bbox_head\.cls_branches\.\d+\.6\.weight$", _contrast(3.0)),
    (r"^pts_bbox_head\.reg_branches\.\d+\.4\.bias$", lambda rng, shape: BOX_PRIOR),
    (r"^pts_bbox_head\.reg_branches\.\d+\.4\.weight$", _box_weight),
    (r"^seg_head\.cls_branches\.\d+\.bias$", _constant(-1.0)),
    (r"things_mask_head\.attnen\.linear\.0\.bias$", _constant(-0.45)),
    (r"stuff_mask_head\.attnen\.linear\.0\.bias$", _constant(0.45)),
    (r"^planning_head\.reg_branch\.2\.weight$", _contrast(0.3)),
    (r"^motion_head\.traj_reg_branches\.\d+\.4\.weight$", _contrast(1.5)),
    (r"^planning_head\.reg_branch\.2\.bias$", _displacements),
    (r"^occ_head\.query_to_occ_feat\.layers\.2\.weight$", _fan_in(1.5)),
    (r"^occ_head\.query_to_occ_feat\.layers\.2\.bias$", _normal(0.02, -0.05)),
    (r"bn3\.weight$", _constant(0.3)),
    (r"(level_embeds|cams_embeds|(row|col)_embed\.weight)$", _normal(0.5)),
    (r"(embedding|navi_embed|pos_embed|stuff_query|motion_query_embedding)\.weight$", _normal(1.0)),
    (r"(norm|norm\w*|norms\.\d+|bn\w*|abn\w*\.0)\.weight$", _constant(1)),
    (r"(out_proj|output_proj(\.0)?|layers\.1|linear2|fc2|proj)\.weight$", lambda rng, shape: _projection(rng, shape)),
    (r"(conv\d?|convs?\.\d+|conv_\w+)\.weight$", lambda rng, shape: _convolution(rng, shape)),
    (r"bias$", _normal(0.02)),
    (r"", lambda rng, shape: _weight(rng, shape)),
)
"""What an entry is drawn from, by the first pattern that its key matches."""


def _projection(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """The last layer of a residual branch: damped, so that depth does not amplify."""
    return _weight(rng, shape) * 0.5


def _convolution(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return _weight(rng, shape) * math.sqrt(2)


def _weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A linear map that keeps the scale; a vector is a normalisation's gain."""
    return np.ones(shape) if len(shape) == 1 else _fan_in(1.0)(rng, shape)
