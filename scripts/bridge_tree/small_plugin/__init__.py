"""A detector and a dataset of our own, registered as those of UniAD's trees are."""

import torch
from mmcv.parallel import DataContainer
from mmdet.datasets import DATASETS
from mmdet.models import DETECTORS
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.models.detectors.mvx_two_stage import MVXTwoStageDetector
from small_uniad import UniADMethods, small_batch, small_clip


@DETECTORS.register_module()
class SmallDetector(UniADMethods, MVXTwoStageDetector):
    """The small model of the tests as a detector of mmdet3d, whose `train_step` it has."""

    train_step = MVXTwoStageDetector.train_step

    def __init__(self, pretrained=None, train_cfg=None, test_cfg=None):
        MVXTwoStageDetector.__init__(self, train_cfg=train_cfg, test_cfg=test_cfg, pretrained=pretrained)
        self.set_up()


@DATASETS.register_module()
class SmallDataset:
    """Three frames of one scene, or one clip, in containers."""

    CLASSES = ("car",)

    def __init__(self, test_mode=False):
        self.test_mode = test_mode

    def __len__(self):
        return 3 if self.test_mode else 1

    def __getitem__(self, index):
        return self._frame(index) if self.test_mode else self._clip()

    def _frame(self, index):
        batch = small_batch(index)
        meta = dict(batch["img_metas"][0][0], box_type_3d=LiDARInstance3DBoxes)
        return {
            "img": [DataContainer(batch["img"][0][0], stack=True)],
            "img_metas": [DataContainer(meta, cpu_only=True)],
            "timestamp": [batch["timestamp"][0][0]],
            "l2g_r_mat": batch["l2g_r_mat"][0],
            "l2g_t": batch["l2g_t"][0],
            "command": [batch["command"][0][0]],
        }

    def _clip(self):
        clip = small_clip()
        sample = {}
        for name, value in clip.items():
            inner = value[0]
            if name == "img":
                sample[name] = DataContainer(inner, stack=True)
            elif isinstance(inner, list) and hasattr(inner[0], "tensor"):
                boxes = [LiDARInstance3DBoxes(entry.tensor.reshape(-1, 9), box_dim=9) for entry in inner]
                sample[name] = DataContainer(boxes, cpu_only=True)
            elif isinstance(inner, torch.Tensor) and not isinstance(value, list):
                sample[name] = inner
            else:
                sample[name] = DataContainer(inner, cpu_only=name == "img_metas")
        return sample
