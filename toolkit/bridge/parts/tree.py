"""The user's code, as its own scripts find it: in the working directory, by the plugin of a config."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from toolkit.bridge.parts.environment import THIRD_PARTY, BridgeError


class Tree:
    """What builds a config's model and dataset."""

    def __init__(self, config: str, checkpoint: str) -> None:
        for path in (config, checkpoint):
            if not os.path.isfile(path):
                raise BridgeError(f"{path} is no file")
        sys.path.insert(0, os.getcwd())
        self.checkpoint = checkpoint
        self.config = importlib.import_module("mmcv").Config.fromfile(config)
        if self.config.get("custom_imports"):
            importlib.import_module("mmcv.utils").import_modules_from_strings(**self.config["custom_imports"])
        if self.config.get("plugin"):
            folder = os.path.dirname(self.config.get("plugin_dir") or config)
            importlib.import_module(folder.strip("/").replace("/", "."))
        try:
            self._build_model = importlib.import_module(THIRD_PARTY + ".models.builder").build_model
            self._mmdet3d = THIRD_PARTY
        except ModuleNotFoundError as error:
            if error.name is None or not THIRD_PARTY.startswith(error.name):
                raise
            self._build_model = importlib.import_module("mmdet3d.models").build_model
            self._mmdet3d = "mmdet3d"
        self.tiny = self._mmdet3d == THIRD_PARTY
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def model(self, training: bool) -> Any:
        """With the checkpoint's weights, all of them."""
        settings = self.config.model
        settings.pretrained = None
        if not training:
            settings.train_cfg = None
        model = self._build_model(settings, test_cfg=self.config.get("test_cfg"))
        load = importlib.import_module("mmcv.runner").load_checkpoint
        load(model, self.checkpoint, map_location="cpu", strict=True)
        return model.to(self.device)

    def parallel(self, model: Any) -> Any:
        """The model in what takes batches as loaders give them."""
        return importlib.import_module("mmcv.parallel").MMDataParallel(model, [0] if self.device == "cuda" else [])

    def batches(self, part: str, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Samples of a part of the config's data, a batch each; indices rise."""
        settings = self.config.data[part]
        settings = settings[0] if isinstance(settings, (list, tuple)) else settings
        if part == "test":
            settings.test_mode = True
            settings.pop("samples_per_gpu", None)
        dataset = importlib.import_module(self._mmdet3d + ".datasets").build_dataset(settings)
        if indices[-1] >= len(dataset):
            raise BridgeError(f"the {part} dataset has {len(dataset)} samples, no sample {indices[-1]}")
        collate = importlib.import_module("mmcv.parallel").collate
        return (collate([dataset[index]], samples_per_gpu=1) for index in indices)

    def boxes_type(self) -> Any:
        """The class of boxes in the LiDAR frame, from the tree's own mmdet3d."""
        modules = [module for name, module in sys.modules.items() if name.startswith(self._mmdet3d)]
        return next(m.LiDARInstance3DBoxes for m in modules if hasattr(m, "LiDARInstance3DBoxes"))


@contextlib.contextmanager
def cuda_as_here(device: str) -> Iterator[None]:
    """Without a GPU, moving to one does nothing: some trees do it whatever they run on."""
    original = torch.Tensor.cuda
    if device == "cpu":
        torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.cuda = original  # type: ignore[method-assign]
