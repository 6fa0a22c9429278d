"""GridMask: pictures behind a lattice (Chen et al. 2020), so that objects are recognised by any part of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def grid_mask(image: Tensor) -> Tensor:
    """Images [..., H, W] with squares of chance size and place blackened, the same in all of them.

    Squares and the bars between them are about equally wide, and at most as wide as the image is high.
    """
    height, width = image.shape[-2:]
    period = int(torch.randint(2, height, ()))
    bar = min(max((period + 1) // 2, 1), period - 1)
    # By NumPy: torch would wake all its threads on the host for so little, and wait for cores that others use.
    bars = [(np.arange(size) - int(torch.randint(period, ()))) % period < bar for size in (height, width)]
    kept = (bars[0][:, None] | bars[1]).astype(np.float32)
    return image * torch.from_numpy(kept).to(image)
