"""A small model with the attributes and methods of the official one, its habits of changing things in place included.

It needs torch alone, so that the bridge can be tried with it wherever that must run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

QUERIES, WIDTH, CELLS, SIDE, STEPS = 7, 4, 9, 3, 6


class Tracks:
    """Fields of one length."""

    def __init__(self, **fields: torch.Tensor) -> None:
        self.__dict__.update(fields)

    def __getitem__(self, rows: Any) -> Tracks:
        return Tracks(**{name: field[rows] for name, field in vars(self).items()})

    def followed_by(self, other: Tracks) -> Tracks:
        return Tracks(**{name: torch.cat([field, getattr(other, name)]) for name, field in vars(self).items()})


class Boxes:
    """Stands for the class of boxes in the LiDAR frame."""

    def __init__(self, tensor: torch.Tensor, box_dim: int = 9) -> None:
        self.tensor = tensor


class TrackBase:
    """Gives ids to what scores well."""

    score_thresh, filter_score_thresh, miss_tolerance = 0.4, 0.35, 5

    def __init__(self) -> None:
        self.max_obj_id = 0

    def update(self, tracks: Any) -> None:
        for row in range(len(tracks.obj_idxes)):
            if tracks.obj_idxes[row] == -1 and tracks.scores[row] >= self.score_thresh:
                tracks.obj_idxes[row] = self.max_obj_id
                self.max_obj_id += 1


class MapHead(nn.Module):
    """Draws lanes; insists on ground truth."""

    canvas_size = (SIDE, SIDE)
    fp16_enabled = False

    def forward_test(
        self, pts_feats: Any, gt_lane_labels: Any, gt_lane_masks: Any, img_metas: Any, rescale: bool = False
    ) -> Any:
        assert gt_lane_masks[0][0, -1].shape == (SIDE, SIDE)
        lanes = (pts_feats[:, 0, :3].T.reshape(3, SIDE, SIDE) > 0).long()
        return [{"pts_bbox": {"lane": lanes, "drivable": lanes[0] > 0, "lane_score": lanes.float()}, "args_tuple": ()}]


class MotionHead(nn.Module):
    """Puts the ego behind the boxes that it is given, where they are."""

    def forward_test(self, bev_embed: Any, outs_track: Any, outs_seg: Any) -> Any:
        boxes = outs_track["track_bbox_results"][0]
        boxes[0].tensor = torch.cat([boxes[0].tensor, torch.zeros(1, 9)])
        agents = len(boxes[0].tensor)
        paths = boxes[0].tensor[:, None, None, :5] + torch.ones(agents, 6, 12, 5)
        query = torch.zeros(1, agents - 1, WIDTH)
        return [{"traj": paths, "traj_scores": torch.zeros(agents, 6)}], {"track_query": query}


class OccupancyHead(nn.Module):
    """Cells of the present and four steps."""

    receptive_field, n_future, bev_size = 3, 4, (SIDE, SIDE)

    def forward_test(
        self,
        bev_feat: Any,
        outs_dict: Any,
        no_query: bool,
        gt_segmentation: Any,
        gt_instance: Any,
        gt_img_is_valid: Any,
    ) -> Any:
        present = (bev_feat[:, 0, 0] > 0).long().reshape(1, 1, 1, SIDE, SIDE).repeat(1, 5, 1, 1, 1)
        return {"seg_out": present * (not no_query), "ins_seg_out": present[:, :, 0]}


class PlanningHead(nn.Module):
    """A plan that the optimiser moves."""

    use_col_optim = True

    def forward_test(self, bev_embed: Any, outs_motion: Any, outs_occflow: Any, command: Any) -> Any:
        plan = torch.cumsum(torch.ones(1, STEPS, 2), 1) * (1 + int(command[0])) + bev_embed.mean()
        if self.use_col_optim:
            plan = self.collision_optimization(plan, outs_occflow["seg_out"])
        return {"sdc_traj": plan, "sdc_traj_all": plan}

    def collision_optimization(self, sdc_traj_all: torch.Tensor, occ_mask: torch.Tensor) -> torch.Tensor:
        return sdc_traj_all.add_(3.5)


class UniADMethods:
    """What the official detector has beyond its base class."""

    def set_up(self) -> None:
        self.query_embedding = nn.Embedding(QUERIES, 2 * WIDTH)
        self.dropout = nn.Dropout(0.5)
        self.mixing = nn.MultiheadAttention(WIDTH, 1, dropout=0.25)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.seg_head, self.motion_head = MapHead(), MotionHead()
        self.occ_head, self.planning_head = OccupancyHead(), PlanningHead()
        self.use_grid_mask = True
        self.scene_token: Any = None
        self.test_track_instances: Any = None
        self.prev_bev: Any = None
        self.timestamp: Any = None
        self.l2g_r_mat: Any = None
        self.l2g_t: Any = None
        self.track_base = TrackBase()
        self.prev_frame_info: dict[str, Any] = {"scene_token": None, "prev_pos": 0.0, "prev_angle": 0.0}

    def _generate_empty_tracks(self) -> Tracks:
        rows = QUERIES
        return Tracks(
            query=self.query_embedding.weight,
            ref_pts=torch.zeros(rows, 3),
            output_embedding=torch.zeros(rows, WIDTH),
            obj_idxes=torch.full((rows,), -1),
            matched_gt_idxes=torch.full((rows,), -1),
            disappear_time=torch.zeros(rows, dtype=torch.long),
            iou=torch.zeros(rows),
            scores=torch.zeros(rows),
            track_scores=torch.zeros(rows),
            pred_boxes=torch.zeros(rows, 10),
            pred_logits=torch.zeros(rows, 10),
            mem_bank=torch.zeros(rows, 4, WIDTH),
            mem_padding_mask=torch.ones(rows, 4, dtype=torch.bool),
            save_period=torch.zeros(rows),
        )

    def _forward_single_frame_inference(
        self, img: Any, img_metas: Any, track_instances: Any, prev_bev: Any = None, **poses: Any
    ) -> dict[str, Any]:
        if prev_bev is not None:
            prev_bev.mul_(-1)
        bev = torch.linspace(-1, 1, CELLS * WIDTH).reshape(CELLS, 1, WIDTH) + img.mean()
        if prev_bev is not None:
            bev = bev + 0.1 * prev_bev
        rows = len(track_instances.query)
        track_instances.scores = (torch.arange(rows) % 3) / 3 + 0.01
        track_instances.pred_boxes = track_instances.query[:, :1] + torch.arange(10.0)
        track_instances.disappear_time.add_(1)
        self.track_base.update(track_instances)
        active = torch.nonzero(track_instances.obj_idxes >= 0)[:, 0]
        order = track_instances.scores[active].sort(descending=True)[1]
        best = track_instances[active[order]]
        boxes = img_metas[0]["box_type_3d"](best.pred_boxes[:, :9].clone(), 9)
        labels = torch.zeros(len(order), dtype=torch.long)
        survivors = track_instances[track_instances.obj_idxes >= 0]
        return {
            "bev_embed": bev,
            "bev_pos": bev,
            "boxes_3d": boxes,
            "track_scores": best.scores,
            "labels_3d": labels,
            "track_ids": best.obj_idxes,
            "bbox_index": order,
            "mask": torch.ones(len(order), dtype=torch.bool),
            "track_bbox_results": [[boxes, best.scores, labels, order]],
            "track_instances": self._generate_empty_tracks().followed_by(survivors),
        }

    def simple_test_track(
        self, img: Any = None, l2g_t: Any = None, l2g_r_mat: Any = None, img_metas: Any = None, timestamp: Any = None
    ) -> list[dict[str, Any]]:
        if self.test_track_instances is None or img_metas[0]["scene_token"] != self.scene_token:
            self.scene_token = img_metas[0]["scene_token"]
            self.prev_bev = None
            tracks = self._generate_empty_tracks()
        else:
            tracks = self.test_track_instances
        self.timestamp, self.l2g_t, self.l2g_r_mat = timestamp, l2g_t, l2g_r_mat
        result = self._forward_single_frame_inference(img, img_metas, tracks, self.prev_bev)
        img.zero_()
        self.prev_bev, self.test_track_instances = result["bev_embed"], result["track_instances"]
        return [result]

    def forward_test(
        self,
        img: Any,
        img_metas: Any,
        l2g_t: Any,
        l2g_r_mat: Any,
        timestamp: Any,
        command: Any,
        gt_lane_labels: Any = None,
        gt_lane_masks: Any = None,
        rescale: bool = False,
        **truth: Any,
    ) -> list[dict[str, Any]]:
        meta, before = img_metas[0][0], self.prev_frame_info
        here = np.array(meta["can_bus"])
        meta["can_bus"][:3] -= before["prev_pos"]
        meta["can_bus"][-1] -= before["prev_angle"]
        before.update(scene_token=meta["scene_token"], prev_pos=here[:3], prev_angle=here[-1])
        (track,) = self.simple_test_track(img[0], l2g_t, l2g_r_mat, img_metas[0], timestamp[0])
        masks = gt_lane_masks or [torch.zeros(1, 4, SIDE, SIDE)]
        (lanes,) = self.seg_head.forward_test(track["bev_embed"], gt_lane_labels, masks, img_metas[0], rescale)
        _, motion = self.motion_head.forward_test(track["bev_embed"], outs_track=track, outs_seg=lanes)
        occupancy = self.occ_head.forward_test(track["bev_embed"], motion, False, None, None, None)
        plan = self.planning_head.forward_test(track["bev_embed"], motion, occupancy, command)
        return [{"planning": plan, "bbox_index": track["bbox_index"]}]

    def forward(self, return_loss: bool = True, **data: Any) -> Any:
        return self.forward_train(**data) if return_loss else self.forward_test(**data)

    def forward_train(self, img: Any, img_metas: Any, **truth: Any) -> dict[str, torch.Tensor]:
        shaken = self.norm(self.dropout(img.reshape(-1, WIDTH)))
        truth["gt_fut_traj"][0].zero_()
        return {"track.frame_0_loss_cls_0": shaken.square().mean(), "map.loss_mask": shaken.abs().sum()[None]}

    def train_step(self, data: Any, optimizer: Any) -> dict[str, Any]:
        losses = self.forward(**data)
        entries = {name: float(value.mean()) for name, value in losses.items()}
        return {"log_vars": dict(entries, loss=sum(entries.values())), "num_samples": 1}


class SmallUniAD(UniADMethods, nn.Module):
    """The model outside of any framework."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.set_up()


def small_batch(number: int, scene: str = "scene", seconds: float = 0.5) -> dict[str, Any]:
    """A frame as the official test loader gives it, without containers; epoch seconds, absolute poses."""
    generator = np.random.RandomState(number)
    turn = 0.1 * number
    can_bus = np.zeros(18)
    can_bus[:3] = [600.0 + number, 1600.0, 0.0]
    can_bus[3:7] = np.cos(turn / 2)
    can_bus[16:] = turn, np.degrees(turn)
    names = ("CAM_FRONT", "CAM_FRONT_RIGHT")
    meta = {
        "can_bus": can_bus,
        "lidar2img": [generator.rand(4, 4) for _ in names],
        "scene_token": scene,
        "sample_idx": f"sample {number}",
        "filename": [f"data/samples/{name}/{number}__{name}.jpg" for name in names],
        "box_type_3d": Boxes,
    }
    return {
        "img": [torch.from_numpy(generator.rand(1, len(names), 3, 4, 4).astype(np.float32))],
        "img_metas": [[meta]],
        "l2g_t": torch.tensor([[600.0 + number, 1600.0, 0.0]]),
        "l2g_r_mat": torch.eye(3)[None],
        "timestamp": [torch.tensor([1532402927.6 + seconds * number], dtype=torch.float64)],
        "command": [torch.tensor([2])],
    }


def small_clip(frames: int = 3, objects: int = 2) -> dict[str, Any]:
    """A clip as the official training loader gives it, without containers: one list a sample of the batch."""
    batches = [small_batch(number) for number in range(frames)]

    def lists(make: Any) -> list[list[Any]]:
        return [[make(number) for number in range(frames)]]

    return {
        "img": torch.stack([batch["img"][0][0] for batch in batches])[None],
        "img_metas": [{number: batch["img_metas"][0][0] for number, batch in enumerate(batches)}],
        "timestamp": lists(lambda number: batches[number]["timestamp"][0][0]),
        "l2g_r_mat": lists(lambda number: torch.eye(3)),
        "l2g_t": lists(lambda number: batches[number]["l2g_t"][0]),
        "gt_bboxes_3d": lists(lambda number: Boxes(torch.full((objects, 9), float(number)))),
        "gt_labels_3d": lists(lambda number: torch.zeros(objects, dtype=torch.long)),
        "gt_inds": lists(lambda number: torch.arange(objects) + 1),
        "gt_past_traj": lists(lambda number: torch.zeros(objects, 8, 2, dtype=torch.float64)),
        "gt_past_traj_mask": lists(lambda number: torch.ones(objects, 8, 2, dtype=torch.float64)),
        "gt_sdc_bbox": lists(lambda number: Boxes(torch.zeros(1, 9))),
        "gt_sdc_label": lists(lambda number: torch.zeros(1, dtype=torch.long)),
        "gt_fut_traj": [torch.ones(objects, 12, 2, dtype=torch.float64)],
        "gt_fut_traj_mask": [torch.ones(objects, 12, 2, dtype=torch.float64)],
        "gt_sdc_fut_traj": [torch.ones(1, 12, 2, dtype=torch.float64)],
        "gt_sdc_fut_traj_mask": [torch.ones(1, 12, 2, dtype=torch.float64)],
        "gt_lane_labels": [torch.arange(4)],
        "gt_lane_bboxes": [torch.zeros(4, 4, dtype=torch.long)],
        "gt_lane_masks": [torch.zeros(4, SIDE, SIDE, dtype=torch.uint8)],
        "sdc_planning": torch.zeros(1, 1, 6, 3, dtype=torch.float64),
        "sdc_planning_mask": torch.ones(1, 1, 6, 2, dtype=torch.float64),
        "command": torch.tensor([2]),
        "gt_future_boxes": [[Boxes(torch.zeros(step, 9)) for step in range(7)]],
        "gt_segmentation": torch.zeros(1, 7, SIDE, SIDE, dtype=torch.long),
        "gt_instance": torch.zeros(1, 7, SIDE, SIDE, dtype=torch.long),
        "gt_occ_img_is_valid": torch.ones(1, 9, dtype=torch.bool),
    }
