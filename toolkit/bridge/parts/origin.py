"""What a dump says of the model and the environment that it was made in."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import os
import platform
import subprocess
import sys
from typing import Any

import torch

from toolkit.bridge.parts.environment import THIRD_PARTY, BridgeError

FORMAT = 1


def origin_of(model: Any, config: Any, checkpoint: str | None, fp16: bool) -> dict[str, Any]:
    """What a dump says of the model and its environment, as JSON has it; None is what cannot be told.

    Raises BridgeError for a config or checkpoint that is no file, and for a config of another kind.
    """
    config, checkpoint = _named_file(config), _named_file(checkpoint)
    if config is not None and not isinstance(config, str) and not hasattr(config, "get"):
        raise BridgeError(f"config is a {type(config).__name__}; give a file or mmcv's Config")
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    file = config if config is None or isinstance(config, str) else getattr(config, "filename", None)
    if isinstance(config, str):
        config = importlib.import_module("mmcv").Config.fromfile(config) if "mmcv" in sys.modules else None
    modules = ("numpy", "torch", "mmcv", "mmdet", "mmdet3d")
    versions = {name: getattr(sys.modules.get(name), "__version__", None) for name in modules}
    tree = _tree(model, versions["mmdet3d"])
    infos = _infos(config)
    tracker = getattr(model, "track_base", None)
    said = {
        "format": FORMAT,
        "versions": dict(versions, python=platform.python_version()),
        "tree": tree,
        "commit": _commit(model),
        "config": file,
        "config_sha256": _digest(file),
        "model": None if config is None else config.get("model"),
        "checkpoint": checkpoint,
        "checkpoint_sha256": _digest(checkpoint),
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "tf32": on_gpu and (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32),
        "fp16": fp16,
        "score_thresh": getattr(tracker, "score_thresh", None),
        "filter_score_thresh": getattr(tracker, "filter_score_thresh", None),
        "miss_tolerance": getattr(tracker, "miss_tolerance", None),
        "use_col_optim": getattr(getattr(model, "planning_head", None), "use_col_optim", None),
        "infos": infos,
        "yaw_convention": yaw_convention(tree, infos),
    }
    plain: dict[str, Any] = _plain(said)
    return plain


def _named_file(given: Any) -> Any:
    """A path as text; what is no path as it is."""
    given = os.fspath(given) if isinstance(given, os.PathLike) else given
    if isinstance(given, str) and not os.path.isfile(given):
        raise BridgeError(f"{given} is no file")
    return given


def yaw_convention(tree: str | None, infos: str | None) -> str | None:
    """What a box's yaw means: the heading in what UniAD v2.0 prepares, clockwise from -y before it."""
    if tree == "UniAD v2.0" or "uniad2.0" in os.path.basename(infos or ""):
        return "heading"
    return None if tree is None else "clockwise"


def _infos(config: Any) -> str | None:
    """The file of the training's labels."""
    part = {} if config is None else (config.get("data") or {}).get("train") or {}
    return part.get("ann_file") if isinstance(part, dict) else None


def of_command_line(suffix: str) -> str | None:
    return next((word for word in sys.argv[1:] if word.endswith(suffix) and os.path.isfile(word)), None)


def _tree(model: Any, mmdet3d: str | None) -> str | None:
    if not type(model).__module__.startswith("projects."):
        return None
    if any(name.startswith(THIRD_PARTY) for name in sys.modules):
        return "UniAD-tiny"
    return None if mmdet3d is None else "UniAD v1" if mmdet3d.startswith("0.") else "UniAD v2.0"


def _commit(model: Any) -> str | None:
    """The commit of the tree that the model's class comes from, with -dirty if files are changed."""
    try:
        folder = os.path.dirname(os.path.abspath(inspect.getfile(type(model))))
        command = ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, universal_newlines=True).strip() or None
    except (OSError, TypeError, subprocess.CalledProcessError):
        return None


def _digest(path: str | None) -> str | None:
    if path is None or not os.path.isfile(path):
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value as JSON has it: of numpy and torch the numbers, of paths the text, of what it does not know the repr."""
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value))
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else repr(value)
