"""The files that training and deployment of UniAD keep under one root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolkit.doctor.check import Check, Status
from toolkit.errors import InputError
from toolkit.weights.published import published_file


@dataclass(frozen=True)
class Entry:
    """A path under the root and what it must hold; what it is for, and where it comes from.

    `path` may be a pattern, of which one match is enough. Without a `required` one nothing can be converted.
    """

    path: str
    purpose: str
    source: str
    contents: tuple[str, ...] = ()
    required: bool = False


ENTRIES = (
    Entry("ckpts/*.pth", "trained weights", "your training, or a release of UniAD", required=True),
    Entry(
        "data/others/motion_anchor_infos_mode6.pkl",
        "motion anchors of the training, for `convert --motion-anchors`",
        "the releases of UniAD",
        required=True,
    ),
    Entry(
        "data/infos",
        "index of the nuScenes frames",
        "the releases of UniAD, or its data preparation",
        ("nuscenes_infos_temporal_train.pkl", "nuscenes_infos_temporal_val.pkl"),
    ),
    Entry(
        "data/nuscenes",
        "the nuScenes dataset",
        "nuscenes.org, after registration: full dataset v1.0, CAN bus expansion, map expansion",
        ("can_bus", "maps", "samples", "sweeps", "v1.0-trainval"),
    ),
    Entry("nuscenes_np/uniad_onnx_input", "example inputs of an export", "the deployment tools of UniAD-tiny"),
    Entry(
        "nuscenes_np/uniad_trt_input",
        "recorded inputs of the C++ application",
        "the deployment tools of UniAD-tiny",
        (
            "timestamp",
            "l2g_r_mat",
            "l2g_t",
            "command",
            "img_metas_can_bus",
            "img_metas_lidar2img",
            "img_metas_scene_token",
            "info.txt",
        ),
    ),
)


def check_files(root: Path) -> list[Check]:
    """One check an entry. Raises InputError if `root` is no folder."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the one that holds ckpts/, data/ and nuscenes_np/")
    return [_check(root, entry) for entry in ENTRIES]


def _check(root: Path, entry: Entry) -> Check:
    found = sorted(root.glob(entry.path))
    faults = [fault for path in found for fault in _faults(path, entry)] if found else ["missing"]
    if not faults:
        names = f": {', '.join(map(_described, found))}" if "*" in entry.path else ""
        return Check(entry.path, Status.OK, entry.purpose + names)
    status = Status.FAILED if entry.required else Status.NOTE
    return Check(entry.path, status, f"{entry.purpose}: {', '.join(faults)}", f"comes from {entry.source}")


def _faults(path: Path, entry: Entry) -> list[str]:
    if _is_empty(path):
        return [f"{path.name} is empty"]
    published = published_file(path.name)
    if published and (fault := published.size_fault(path.stat().st_size)):
        return [f"{fault}: {published.remedy}"]
    missing = [name for name in entry.contents if not (path / name).exists()]
    empty = [name for name in entry.contents if name not in missing and _is_empty(path / name)]
    return [f"{name} is missing" for name in missing] + [f"{name} is empty" for name in empty]


def _described(path: Path) -> str:
    published = published_file(path.name)
    return f"{path.name} ({published.kind}; convert with --config {published.config})" if published else path.name


def _is_empty(path: Path) -> bool:
    return not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
