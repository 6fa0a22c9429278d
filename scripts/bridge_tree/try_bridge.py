"""Every mode of uniad_bridge.py on the small detector, by the real mmcv and mmdet3d."""

import json
import sys

import mmcv
import mmdet3d
import numpy as np
import small_plugin  # noqa: F401
import torch
import uniad_bridge
from mmcv.parallel import MMDataParallel, collate
from mmcv.runner import load_checkpoint
from mmdet3d.datasets import build_dataset
from mmdet3d.models import build_model

CONFIG, CHECKPOINT = "small_config.py", "small.pth"


def configured() -> mmcv.Config:
    config = mmcv.Config.fromfile(CONFIG)
    config.model.pretrained = None
    return config


def make_checkpoint() -> None:
    torch.manual_seed(0)
    torch.save({"state_dict": build_model(configured().model).state_dict()}, CHECKPOINT)


def run_test_script() -> None:
    """What a user's own does, with one line more."""
    config = configured()
    dataset = build_dataset({"type": config.data.test.type, "test_mode": True})
    model = build_model(config.model)
    load_checkpoint(model, CHECKPOINT, map_location="cpu", strict=True)
    model = MMDataParallel(model, device_ids=[])
    uniad_bridge.attach(model, "attached.npz", frames=3, config=CONFIG, checkpoint=CHECKPOINT)
    with torch.no_grad():
        for index in range(len(dataset)):
            model(return_loss=False, rescale=True, **collate([dataset[index]], samples_per_gpu=1))


def arrays(path: str) -> dict:
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def compare(path: str, other: str) -> None:
    first, second = arrays(path), arrays(other)
    names = [key for key in first if key != "meta" and "scene_token" not in key and "sample_idx" not in key]
    for key in names:
        np.testing.assert_allclose(second[key], first[key], rtol=1e-6, atol=1e-6, err_msg=key)
    print(f"{path} and {other}: {len(names)} arrays are equal")


def bridge(*arguments: str) -> None:
    assert uniad_bridge.main([CONFIG, CHECKPOINT, *arguments]) == 0


def main() -> None:
    make_checkpoint()
    run_test_script()
    bridge("--dataset", "0:3", "-o", "dataset.npz")
    bridge("--inputs", "dataset.npz", "-o", "inputs.npz")
    bridge("--losses", "0", "-o", "losses.json")
    compare("attached.npz", "dataset.npz")
    compare("dataset.npz", "inputs.npz")
    frames, clip = arrays("attached.npz"), arrays("losses.npz")
    said = json.loads(str(frames["meta"]))
    assert said["model"]["type"] == "SmallDetector"
    assert len(said["checkpoint_sha256"]) == len(said["config_sha256"]) == 64
    assert frames["f0.out.bboxes_dict_bboxes"].shape[1] == clip["gt_bboxes_3d.0"].shape[1] == 9
    with open("losses.json", encoding="utf-8") as file:
        losses = json.load(file)
    assert losses["total"] == losses["losses"]["loss"] > 0
    print("versions:", said["versions"])
    print(f"passed on Python {sys.version.split()[0]} with mmdet3d {mmdet3d.__version__}")


if __name__ == "__main__":
    main()
