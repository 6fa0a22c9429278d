"""The reference's training on its golden clips: ground truth, network outputs, losses and assignments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.training.clip_losses import default_type as default_type

DTYPES = {"f32": torch.float32, "f64": torch.float64}
ROUNDING = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class GoldenClip:
    """One forward of the training of a stage, in one precision."""

    dtype: torch.dtype
    truth: Mapping[str, Tensor]
    """The clip's arrays; boxes of `dtype`, all else as the reference's data set gives it (trajectories in float64)."""
    outputs: Mapping[str, Tensor]
    """What the network gave, in `dtype`. In float64 most of them were stored rounded to float32."""
    assignments: Mapping[str, Any]
    exact: Mapping[str, float]
    """Losses by name in float64"""
    noise: Mapping[str, float]
    """By how much float32 misses them"""
    gradients: Mapping[str, Tensor]
    """Of the sum of all losses, in `dtype`: those of some parameters, by name"""

    def check(self, name: str, loss: Tensor) -> None:
        """The loss is the reference's: in float64 to 1e-6 of its value, in float32 to ten times its noise."""
        exact = self.exact[name]
        if self.dtype == torch.float64:
            allowed = 1e-6 * abs(exact)
        else:
            allowed = 10 * max(self.noise[name], ROUNDING * abs(exact))
        assert abs(loss.item() - exact) <= allowed, f"{name}: {loss.item()} instead of {exact}, allowed +-{allowed}"

    def check_all(self, losses: Mapping[str, Tensor], prefix: str) -> None:
        """These are all losses with the prefix, and the reference's: computed by a whole submodule, not a formula.

        In float64 each is to 1e-6 of its value. In float32 each is to ten times the relative noise of the noisiest of
        them: an entry's own noise is one sample of what six layers of refinement make of rounding, and may be small by
        luck. That of the boxes themselves is the reference's.
        """
        names = [name for name in self.exact if name.startswith(prefix)]
        assert set(losses) == set(names)
        noise = max(self.noise[name] / abs(self.exact[name]) for name in names if self.exact[name])
        allowed = 1e-6 if self.dtype == torch.float64 else 10 * noise
        for name in names:
            assert losses[name].item() == pytest.approx(self.exact[name], rel=allowed, abs=0), name

    def check_gradient(self, parameter: str, gradient: Tensor) -> None:
        """The gradient is the reference's to 1e-5 of its largest entry."""
        golden = self.gradients[parameter]
        torch.testing.assert_close(gradient, golden, rtol=0, atol=1e-5 * golden.abs().max().item())


def load_clip(folder: Path, stage: int, precision: str) -> GoldenClip:
    dtype = DTYPES[precision]
    prefix = f"stage{stage}" if precision == "f32" else f"stage{stage}_f64"

    def losses(name: str) -> dict[str, float]:
        found: dict[str, float] = json.loads((folder / f"{name}_losses.json").read_text())["losses"]
        return found

    exact, single = losses(f"stage{stage}_f64"), losses(f"stage{stage}")
    outputs = np.load(folder / f"{prefix}_intermediate.npz")
    gradients = np.load(folder / f"{prefix}_grads.npz")
    batch = np.load(folder / f"stage{stage}_batch.npz")
    return GoldenClip(
        dtype,
        {k: of_type(batch[k], dtype) if batch[k].dtype == np.float32 else torch.from_numpy(batch[k]) for k in batch},
        {name: of_type(array, dtype) for name, array in outputs.items()},
        json.loads((folder / f"{prefix}_assignments.json").read_text()),
        exact,
        {name: abs(single[name] - value) for name, value in exact.items()},
        {name.removeprefix("grad."): of_type(gradients[name], dtype) for name in gradients if name.startswith("grad.")},
    )


def of_type(array: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    """Floats as `dtype`, integers and truth values as they are."""
    tensor = torch.from_numpy(array)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


@pytest.fixture(scope="session", params=[(s, p) for s in (1, 2) for p in DTYPES], ids=lambda p: f"stage{p[0]}-{p[1]}")
def clip(golden: Path, request: pytest.FixtureRequest) -> GoldenClip:
    """The golden clip of either stage, in either precision."""
    return load_clip(golden / "training", *request.param)


@pytest.fixture(scope="session", params=list(DTYPES))
def stage1_clip(golden: Path, request: pytest.FixtureRequest) -> GoldenClip:
    """The golden clip of stage 1 in either precision: only there the map's gradients were stored branch by branch."""
    return load_clip(golden / "training", 1, request.param)


@pytest.fixture(scope="session", params=list(DTYPES))
def stage2_clip(golden: Path, request: pytest.FixtureRequest) -> GoldenClip:
    """The golden clip of stage 2 in either precision: only there motion, occupancy and planning are trained."""
    return load_clip(golden / "training", 2, request.param)
