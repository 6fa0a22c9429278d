#!/usr/bin/env python3
"""Puts a trained small network into the package, where `uniad-toolkit demo` takes it from.

    python scripts/pack_mini.py stage2/epoch_30.pth mini.toml anchors.npy

Of the checkpoint only the weights are kept, under their official keys: matrices and kernels in FP16, vectors (biases,
normalisation) as they are.
"""

import shutil
import sys
from pathlib import Path

import torch

from toolkit.config.file import load_config
from toolkit.demo.trained import ANCHORS, CHECKPOINT, MODEL
from toolkit.errors import InputError
from toolkit.weights.checkpoint import load_checkpoint
from toolkit.weights.weight_files import write_safetensors

FOLDER = Path(__file__).parents[1] / "toolkit/demo/mini"
MOST_BYTES = 25_000_000


def main(checkpoint: Path, model: Path, anchors: Path) -> None:
    weights = load_checkpoint(checkpoint).state_dict
    packed = {
        key: value.half() if value.dtype is torch.float32 and value.ndim > 1 else value
        for key, value in weights.items()
    }
    infinite = [key for key, value in packed.items() if not value.isfinite().all()]
    if infinite:
        raise SystemExit(f"{infinite[0]} is beyond the range of FP16")
    size = sum(value.nbytes for value in packed.values())
    if size > MOST_BYTES:
        raise SystemExit(f"{size / 1e6:.1f} MB are more than {MOST_BYTES / 1e6:.0f}")
    load_config(model)
    FOLDER.mkdir(exist_ok=True)
    write_safetensors(FOLDER / CHECKPOINT, {key: value.contiguous() for key, value in packed.items()})
    shutil.copyfile(anchors, FOLDER / ANCHORS)
    shutil.copyfile(model, FOLDER / MODEL)
    print(f"{FOLDER}: {sum(value.numel() for value in packed.values()):,} numbers, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    try:
        main(*map(Path, sys.argv[1:]))
    except (InputError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
