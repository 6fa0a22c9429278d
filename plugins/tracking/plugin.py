"""The tracking submodule: detections and tracks from the BEV, and their recurrent state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from plugins.tracking.results import INTERPRETATION
from toolkit.config.size_rules import layers, rows
from toolkit.hookspecs import hookimpl
from toolkit.specs import Role, StateSpec, StateTable, Submodule, TensorSpec, Tolerance

if TYPE_CHECKING:
    from torch import nn

    from toolkit.config.model import ModelConfig
    from toolkit.evaluation.metric import Metric
    from toolkit.training.spec import Training


TRACKS = (
    TensorSpec("track_query", ("tracks", "query"), "float32",
               "track queries, positional then content half; fresh queries first, then tracks, then zeros"),
    TensorSpec("track_reference", ("tracks", 3), "float32", "logits of (x, y, z) normalised over the BEV range"),
    TensorSpec("track_id", ("tracks",), "int32", "object id, -1 in fresh rows"),
    TensorSpec("track_matched", ("tracks",), "int32", "matched ground truth index of training, passed through"),
    TensorSpec("track_missed", ("tracks",), "int32", "frames since the object was last seen"),
    TensorSpec("track_iou", ("tracks",), "float32", "IoU of training, passed through"),
    TensorSpec("track_score", ("tracks",), "float32", "passed through; this frame's scores are `box_scores`"),
    TensorSpec("track_box", ("tracks", 10), "float32",
               "cx, cy, log w, log l, cz, log h, sin yaw, cos yaw, vx, vy in metres and m/s, LiDAR frame"),
    TensorSpec("track_memory", ("tracks", "memory", "embed"), "float32", "past track embeddings, oldest first"),
    TensorSpec("track_memory_padding", ("tracks", "memory"), "int32", "1 where the memory slot is empty"),
    TensorSpec("track_save_period", ("tracks",), "float32", "frames until the next embedding is saved"),
    TensorSpec("track_count", (1,), "int32", "valid track rows: fresh queries and surviving tracks"),
    TensorSpec("next_track_id", (1,), "int32", "the next free object id"),
)  # fmt: skip
"""What a frame leaves to the next one, besides its time and pose."""

POSE = ("timestamp", "l2g_rotation", "l2g_translation")

RANKING = "box_scores"
"""Boxes and agents come in descending order of these."""

RESULTS = (
    TensorSpec("boxes", ("reports", 9), "float32",
               "cx, cy, cz (bottom), w, l, h in metres, yaw in radians, vx, vy in m/s, LiDAR frame; best first, "
               "then zeros. What the yaw means is `yaw_convention` of the configuration", RANKING,
               tolerance=Tolerance(norm=1e-3, largest=0.1), angles=(6,), role=Role.OBJECT_BOXES),
    TensorSpec("box_scores", ("reports",), "float32", "highest class probability, descending", RANKING,
               tolerance=Tolerance(norm=1e-3, largest=5e-3)),
    TensorSpec("box_labels", ("reports",), "int32", "index into the class names", RANKING, role=Role.OBJECT_LABELS),
    TensorSpec("box_ids", ("reports",), "int32", "object id, the same in every frame of a track", RANKING,
               role=Role.OBJECT_IDS),
    TensorSpec("box_count", (1,), "int32", "valid rows of the boxes", role=Role.OBJECT_COUNT),
    TensorSpec("box_rows", ("reports",), "int32",
               "position among the active track rows of each of the best, before the range filter", RANKING),
    TensorSpec("box_row_count", (1,), "int32", "valid entries of box_rows"),
    TensorSpec("dropped_tracks", (1,), "int32", "tracks lost because more survived than the state holds"),
    TensorSpec("dropped_agents", (1,), "int32", "reported boxes without a place among the agents"),
)  # fmt: skip

DETECTION_RANKING = "detection_scores"

DETECTIONS = (
    TensorSpec("detection_boxes", ("reports", 9), "float32",
               "as `boxes`, of the best of all track rows, whether they carry an object or not; best first, then zeros",
               DETECTION_RANKING, tolerance=Tolerance(norm=1e-3), angles=(6,)),
    TensorSpec("detection_scores", ("reports",), "float32", "highest class probability, descending", DETECTION_RANKING,
               tolerance=Tolerance(norm=1e-3, largest=5e-3)),
    # Most rows are no object, and some of them lie between two classes.
    TensorSpec("detection_labels", ("reports",), "int32", "index into the class names", DETECTION_RANKING,
               tolerance=Tolerance(share=1e-2)),
    TensorSpec("detection_count", (1,), "int32", "valid rows of the detections"),
)  # fmt: skip
"""What the frame shows, for detection metrics; tracks are another list."""

AGENTS = (
    TensorSpec("agent_embedding", ("agents_and_ego", "embed"), "float32",
               "decoder embedding of the first reported boxes in their order, then zeros; the last row is the ego",
               RANKING),
    TensorSpec("agent_center", ("agents_and_ego", 3), "float32", "gravity centre in metres, LiDAR frame", RANKING),
    TensorSpec("agent_yaw", ("agents_and_ego",), "float32", "yaw in radians as in `boxes`", RANKING,
               tolerance=Tolerance(norm=1e-2, largest=0.1), angles="all"),
    TensorSpec("agent_label", ("agents_and_ego",), "int32", "index into the class names", RANKING),
    TensorSpec("agent_score", ("agents_and_ego",), "float32", "highest class probability", RANKING),
    TensorSpec("agent_valid", ("agents_and_ego",), "bool", "False for padding; always True for the ego"),
)  # fmt: skip

CARRIED = (*POSE, *(spec.name for spec in TRACKS))
"""What this frame reads of the one before."""

SIZES = (
    rows("tracking.queries", lambda c: c.tracking.queries, "query_embedding.weight"),
    layers("tracking.layers", lambda c: c.tracking.layers, "pts_bbox_head.transformer.decoder.layers."),
    rows("number of class_names", lambda c: len(c.class_names), "pts_bbox_head.cls_branches.0.6.weight"),
)


def build(config: ModelConfig) -> nn.Module:
    """Tracking with weights to be loaded."""
    from plugins.tracking.model import Tracking

    return Tracking(config)


def training() -> Training:
    """How it is trained."""
    from plugins.tracking.training import TRAINING

    return TRAINING


DECODER = (
    "pts_bbox_head.transformer.decoder.",
    "pts_bbox_head.cls_branches.",
    "pts_bbox_head.reg_branches.",
    "pts_bbox_head.past_traj_reg_branches.",
    "pts_bbox_head.code_weights",
)
"""Prefixes of entries that BEVFormer, which detects without tracking, has too."""

SUBMODULE = Submodule(
    name="tracking",
    checkpoint_prefixes=(
        "query_embedding.",
        "reference_points.",
        "query_interact.",
        "memory_bank.",
        "criterion.",
        *DECODER,
    ),
    inherited=(*DECODER, "pts_bbox_head.query_embedding.", "pts_bbox_head.transformer.reference_points."),
    inputs=("bev", "use_previous", *POSE, *(f"prev_{name}" for name in CARRIED)),
    outputs=(*TRACKS, *RESULTS, *DETECTIONS, *AGENTS),
    build=build,
    training=training,
    interpretation=INTERPRETATION,
    sizes=SIZES,
    results=(*(spec.name for spec in (*TRACKS, *RESULTS, *DETECTIONS)), "agent_center"),
    states=tuple(StateSpec(f"prev_{name}", name) for name in CARRIED),
    unused=("*.code_weights", "pts_bbox_head.past_traj_reg_branches.*"),
    supervised=("pts_bbox_head.cls_branches.",),
    tables=(StateTable("tracks", count="prev_track_count", fresh="fresh_tracks", next_id="prev_next_track_id"),),
    keep_fp32=("*",),  # scores near a threshold decide which tracks live, in all frames to come
)


@hookimpl
def uniad_submodules() -> Sequence[Submodule]:
    """Multi-object tracking."""
    return (SUBMODULE,)


@hookimpl
def uniad_metrics() -> Sequence[Metric]:
    """Detection and tracking by nuScenes' benchmarks."""
    from plugins.tracking.evaluation import DETECTION, TRACKING

    return (DETECTION, TRACKING)
