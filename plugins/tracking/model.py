"""End-to-end multi-object tracking on the BEV (UniAD, section 3.1: TrackFormer)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from plugins.tracking.boxes import best_detections, gather_reports, select_reports
from plugins.tracking.decoder import DetectionHead, Detections
from plugins.tracking.lifecycle import Lifecycle, update_lifecycle
from plugins.tracking.memory_bank import MemoryBank
from plugins.tracking.query_interaction import QueryInteraction
from plugins.tracking.selection import best_rows, count, first_valid, take, valid_first, where_valid
from plugins.tracking.state import CODED_BOX, FREE_ID, LidarPose, Tracks, fresh_tracks, moved_reference
from toolkit.config.model import ModelConfig, TrackingConfig
from toolkit.nn.coordinates import inverse_sigmoid


class LossWeights(nn.Module):
    """Only in the checkpoint: box weights of the training loss."""

    def __init__(self) -> None:
        super().__init__()
        self.code_weights = nn.Parameter(torch.ones(CODED_BOX), requires_grad=False)


class Tracking(nn.Module):
    """One frame of tracking: learned queries find new objects, carried queries follow known ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        check_capacities(config.tracking)
        self.config = config
        self.formula = config.angle_formula
        self.slots = config.tracking.track_capacity - config.tracking.queries
        self.query_embedding = nn.Embedding(config.tracking.queries, 2 * config.embed)
        self.reference_points = nn.Linear(config.embed, 3)
        self.pts_bbox_head = DetectionHead(config)
        self.memory_bank = MemoryBank(config)
        self.query_interact = QueryInteraction(config)
        self.criterion = LossWeights()

    def forward(
        self,
        bev: Tensor,
        use_previous: Tensor,
        timestamp: Tensor,
        l2g_rotation: Tensor,
        l2g_translation: Tensor,
        prev_timestamp: Tensor,
        prev_l2g_rotation: Tensor,
        prev_l2g_translation: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        """Inputs and outputs as the plugin's tensor specs list them.

        `state` is the fields of `Tracks`, the track count and the next free id as the previous frame left them.
        """
        *previous, track_count, next_id = state
        tracking = self.config.tracking
        fresh = self.fresh()
        carried, carried_valid = self.carry(
            Tracks(*previous),
            track_count,
            use_previous,
            LidarPose(prev_timestamp, prev_l2g_rotation, prev_l2g_translation),
            LidarPose(timestamp, l2g_rotation, l2g_translation),
        )
        tracks = fresh.append(carried)
        valid = torch.cat((carried_valid.new_ones(tracking.queries), carried_valid))

        detections = self.pts_bbox_head(tracks.query, tracks.reference, bev, valid)
        life = update_lifecycle(tracks.id, tracks.missed, detections.score, next_id, tracking)
        selection = select_reports(detections.box, detections.score, life.active, tracking)
        reports, agents = gather_reports(selection, detections, life.id, tracking, self.formula)
        detected, detection_count = best_detections(detections, valid, tracking, self.formula)
        survivors, survivor_count = self.survive(tracks, life, detections)
        return (
            *fresh.append(survivors),
            tracking.queries + survivor_count.clamp(max=self.slots),
            life.next_id,
            *reports,
            selection.row_count,
            selection.active_rank,
            selection.active_count,
            (survivor_count - self.slots).clamp(min=0),
            (selection.row_count - tracking.agent_capacity).clamp(min=0),
            *detected,
            detection_count,
            *agents,
        )

    def fresh(self) -> Tracks:
        """The learned queries, with which every frame begins."""
        query = self.query_embedding.weight
        reference = self.reference_points(query[:, : self.config.embed])
        return fresh_tracks(query, reference, self.config.tracking.memory_length)

    def carry(
        self, state: Tracks, track_count: Tensor, use_previous: Tensor, previous: LidarPose, current: LidarPose
    ) -> tuple[Tracks, Tensor]:
        """Rows of the previous frame that carry an object, with the reference where it should be now.

        Also which of them are valid: none in a new scene. The others may hold anything; they leave free and zero.
        """
        carried = state.after(self.config.tracking.queries)
        xy = moved_reference(carried.reference, carried.box, previous, current, self.config.bev)
        z = self.reference_points(carried.query[:, : self.config.embed])[:, 2:]
        carried = carried._replace(reference=torch.cat((xy, z), -1))

        valid = first_valid(self.slots, track_count - self.config.tracking.queries) & (use_previous > 0)
        return carried.zero_padding(valid)._replace(id=where_valid(valid, carried.id, FREE_ID)), valid

    def survive(self, tracks: Tracks, life: Lifecycle, detections: Detections) -> tuple[Tracks, Tensor]:
        """Rows that enter the next frame, in row order, and how many rows have an id, [1] int32.

        When they are more than fit, those with the highest scores remain.
        """
        survives = life.id >= 0
        survivor_count = count(survives)
        valid = first_valid(self.slots, survivor_count)
        rows = best_rows(detections.score, survives, self.slots)
        rows = take(rows, valid_first(rows, valid))

        survivors = tracks._replace(
            reference=inverse_sigmoid(detections.reference), id=life.id, missed=life.missed, box=detections.box
        ).take(rows)
        embedding, survivors = self.memory_bank(
            survivors, take(detections.embedding, rows), take(detections.score, rows)
        )
        query = self.query_interact(survivors.query, embedding, valid)
        return survivors._replace(query=query).zero_padding(valid), survivor_count


def check_capacities(config: TrackingConfig) -> None:
    """ValueError where the fixed capacities contradict each other."""
    if config.track_capacity <= config.queries:
        raise ValueError(f"track_capacity {config.track_capacity} must exceed the {config.queries} track queries")
    if config.max_reports > config.track_capacity:
        raise ValueError(f"max_reports {config.max_reports} exceeds track_capacity {config.track_capacity}")
    if config.agent_capacity > config.max_reports:
        raise ValueError(f"agent_capacity {config.agent_capacity} exceeds max_reports {config.max_reports}")
