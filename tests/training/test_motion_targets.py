"""Targets of the motion forecast: the reference's on the golden clip, and how futures are smoothed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from plugins.motion import smoothing
from plugins.motion.interior_point import Array
from plugins.motion.smoothing import best_controls, can_be_smoothed, drive, smooth
from plugins.motion.targets import motion_targets
from tests.training.conftest import GoldenClip

SOLVERS_AGREE = 1e-6
"""Metres. IPOPT and ours both stop some 1e-7 m from the minimum."""
STEPS = 12


def golden_targets(clip: GoldenClip, *, smoothed: bool) -> tuple[Tensor, Tensor]:
    """Of the tracks that the reference's network found in the last frame."""
    boxes = clip.outputs["motion.track_boxes"][:-1]
    objects = torch.tensor(clip.assignments["motion_matched_gt_idx"][0][:-1])
    return motion_targets(
        boxes, objects, {**clip.truth, "gt_bboxes_3d": clip.truth["gt_bboxes_3d.2"]}, smoothed=smoothed
    )


def check_targets(clip: GoldenClip, targets: Tensor, name: str, allowed: float) -> None:
    """Equal in metres, up to the type to which the clip's outputs are rounded."""
    golden = clip.outputs[name]
    torch.testing.assert_close(targets, golden.double(), rtol=torch.finfo(golden.dtype).eps, atol=allowed)


def test_smoothed_targets_are_the_reference_s(stage2_clip: GoldenClip) -> None:
    """Those of IPOPT: the same agents are smoothed, to the same paths; what is left is what it was."""
    targets, known = golden_targets(stage2_clip, smoothed=True)
    check_targets(stage2_clip, targets, "motion.matched_gt_traj", SOLVERS_AGREE)
    torch.testing.assert_close(known, stage2_clip.outputs["motion.matched_gt_traj_mask"])
    unsmoothed, _ = golden_targets(stage2_clip, smoothed=False)
    changed = (targets != unsmoothed).flatten(1).any(1)
    assert changed[:-1].tolist() == stage2_clip.assignments["smoother_changed"]


def test_without_smoothing_targets_are_the_annotated_futures(stage2_clip: GoldenClip) -> None:
    """From where the object is; the ego's are as they come."""
    targets, _ = golden_targets(stage2_clip, smoothed=False)
    check_targets(stage2_clip, targets[:-1], "motion.matched_gt_traj_unsmoothed_relative", 0)
    torch.testing.assert_close(targets[-1:], stage2_clip.truth["gt_sdc_fut_traj"])


def a_clip(box: Tensor, future: Tensor) -> dict[str, Tensor]:
    """Ground truth of one object; its future is what is given of it, [up to 12, 2]."""
    padding = STEPS - len(future)
    return {
        "gt_bboxes_3d": box[None],
        "gt_fut_traj": torch.cat((future, torch.zeros(padding, 2)))[None],
        "gt_fut_traj_mask": torch.cat((torch.ones(len(future), 2), torch.zeros(padding, 2)))[None],
        "gt_sdc_fut_traj": torch.zeros(1, STEPS, 2),
        "gt_sdc_fut_traj_mask": torch.ones(1, STEPS, 2),
    }


def a_box(x: float = 0, y: float = 0, yaw: float = math.pi, speed: float = 0) -> Tensor:
    """A car that drives to +y as long as its yaw is pi, which is a heading of -3 pi / 2: see `along`."""
    heading = -math.pi / 2 - yaw
    return torch.tensor(
        [x, y, 0, 2, 4, 1.5, yaw, speed * math.cos(heading), speed * math.sin(heading)], dtype=torch.float64
    )


def along(yaw: float, speed: float, steps: int = STEPS) -> Tensor:
    """[steps, 2], straight on at constant speed from the origin."""
    heading = -math.pi / 2 - yaw
    way = torch.arange(1, steps + 1, dtype=torch.float64)[:, None] * speed * smoothing.SECONDS
    return way * torch.tensor([math.cos(heading), math.sin(heading)], dtype=torch.float64)


def targets_of(seen: Tensor, box: Tensor, future: Tensor) -> Tensor:
    targets, _ = motion_targets(seen[None], torch.tensor([0]), a_clip(box, future), smoothed=True)
    return targets[0]


def test_a_straight_drive_stays_straight() -> None:
    """Seen where and as fast as it is, to a millimetre."""
    future = along(0.4, 8)
    box = a_box(yaw=0.4, speed=8)
    torch.testing.assert_close(targets_of(box, box, future), future, rtol=0, atol=1e-3)


def test_the_path_begins_where_the_network_sees_the_agent() -> None:
    """Half a metre aside: the target leads from there back to the annotated path."""
    future = along(0, 8)
    target = targets_of(a_box(x=0.5, yaw=0, speed=8), a_box(yaw=0, speed=8), future)
    assert not torch.equal(target, future)
    assert target[-1, 0].item() == pytest.approx(-0.5, abs=0.1)


def test_unknown_steps_of_a_smoothed_future_are_zero() -> None:
    box = a_box(yaw=0, speed=8)
    target = targets_of(box, box, along(0, 8, steps=5))
    assert target[:5].any(-1).all()
    assert not target[5:].any()


@pytest.mark.parametrize(
    ("seen", "future"),
    [
        pytest.param(a_box(yaw=0.0), torch.zeros(STEPS, 2, dtype=torch.float64), id="stands"),
        pytest.param(a_box(x=2.1, yaw=0.0, speed=8), along(0, 8), id="seen-elsewhere"),
        pytest.param(a_box(yaw=math.radians(31), speed=8), along(0, 8), id="seen-turned"),
        pytest.param(a_box(yaw=2 * math.pi, speed=8), along(0, 8), id="seen-a-full-turn-off"),
        pytest.param(a_box(yaw=0.0, speed=8), along(0, 8, steps=1), id="one-step"),
        pytest.param(a_box(yaw=0.0, speed=36), along(0, 30), id="seen-too-fast"),
        pytest.param(a_box(yaw=0.0, speed=math.nan), along(0, 8), id="seen-as-nothing"),
        pytest.param(a_box(yaw=0.0, speed=30), along(0, 1), id="cannot-be-followed"),
    ],
)
def test_futures_that_are_left_as_they_are(seen: Tensor, future: Tensor) -> None:
    assert torch.equal(targets_of(seen, a_box(yaw=0.0), future)[: len(future)], future)


def test_headings_are_not_folded() -> None:
    """A yaw of 3 is a heading of -4.57, its way 1.71 to atan2: a turn too many to be followed, as in the reference."""
    assert torch.equal(targets_of(a_box(yaw=3, speed=8), a_box(yaw=3), along(3, 8)), along(3, 8))


def test_no_agent_leaves_the_ego() -> None:
    nothing = torch.zeros(0, 9), torch.zeros(0, dtype=torch.int64)
    targets, known = motion_targets(*nothing, a_clip(a_box(), along(0, 8)), smoothed=True)
    assert targets.shape == (1, STEPS, 2)
    assert known.all()


def some_drives(count: int, steps: int, seed: int) -> tuple[Array, Array]:
    """Starts and references that ask for more than the limits allow: jagged, with sudden turns and stops."""
    random = np.random.default_rng(seed)
    yaw = random.uniform(-2, 0.5, count)
    speed = random.uniform(0, 15, count)
    controls = np.concatenate((random.normal(0, 0.1, (count, steps)), random.normal(0, 2, (count, steps))), -1)
    starts = np.stack((np.zeros(count), np.zeros(count), yaw, speed), -1)
    references = drive(starts, controls)[..., :3]
    references[..., :2] += random.normal(0, 0.5, references[..., :2].shape)
    return starts, references


def test_limits_hold() -> None:
    """Each is met by some vehicle and passed by none; the others keep the yaw rate below its own."""
    starts, references = some_drives(40, STEPS, seed=1)
    controls = best_controls(starts, references)
    states = drive(starts, controls)
    curvature, acceleration = np.split(controls, 2, axis=-1)
    speed = states[..., 3]
    assert speed.min() >= 0
    assert speed.max() <= smoothing.SPEED_LIMIT
    for value, limit in (
        (curvature, smoothing.CURVATURE_LIMIT),
        (acceleration, smoothing.ACCELERATION_LIMIT),
        (speed[:, :-1] ** 2 * curvature, smoothing.LATERAL_LIMIT),
    ):
        assert limit - 1e-3 < np.abs(value).max() <= limit + 1e-9
    assert np.abs(np.diff(states[..., 2])).max() <= smoothing.YAW_RATE_LIMIT * smoothing.SECONDS


def test_the_present_comes_first() -> None:
    starts, references = some_drives(5, 4, seed=2)
    paths, _ = smooth(starts, references)
    np.testing.assert_array_equal(paths[:, 0], starts[:, :2])


def motion(state: Array, control: Array) -> Array:
    """What becomes of a state (x, y, heading, speed) in a second."""
    _, _, yaw, speed = state
    curvature, acceleration = control
    return np.array([speed * math.cos(yaw), speed * math.sin(yaw), speed * curvature, acceleration])


def one_step(state: Array, control: Array) -> Array:
    """Runge and Kutta's fourth order, as it is written everywhere."""
    dt = smoothing.SECONDS
    first = motion(state, control)
    second = motion(state + dt / 2 * first, control)
    third = motion(state + dt / 2 * second, control)
    fourth = motion(state + dt * third, control)
    return state + dt / 6 * (first + 2 * second + 2 * third + fourth)


def test_vehicles_move_as_a_bicycle_does() -> None:
    random = np.random.default_rng(3)
    state = np.array([1.0, 2.0, 0.3, 4.0])
    controls = random.normal(size=10)
    states = drive(state, controls)
    for step in range(5):
        np.testing.assert_allclose(states[step], state, rtol=0, atol=1e-12)
        state = one_step(state, controls[[step, 5 + step]])


def transcribed(start: Array, reference: Array) -> Array:
    """The path by another formulation and solver: states are unknowns too, tied to each other by equalities; SLSQP."""
    steps = len(reference) - 1
    dt = smoothing.SECONDS

    def parts(unknowns: Array) -> tuple[Array, Array]:
        return unknowns[: 4 * (steps + 1)].reshape(steps + 1, 4), unknowns[4 * (steps + 1) :].reshape(steps, 2)

    def cost(unknowns: Array) -> float:
        states, controls = parts(unknowns)
        missed = (states[:, :3] - reference) ** 2
        lateral = states[:-1, 3] ** 2 * controls[:, 0]
        running = missed[:, :2].sum() + 0.1 * missed[:, 2].sum() + 0.06 * (lateral**2).sum()
        smoothness = 0.08 * (controls**2).sum() + 0.08 * ((np.diff(controls, axis=0) / dt) ** 2).sum()
        last = missed[-1, :2].sum() + 40 * missed[-1, 2]
        return float(running + smoothness + steps / 4 * last)

    def gaps(unknowns: Array) -> Array:
        states, controls = parts(unknowns)
        followed = [one_step(*pair) for pair in zip(states[:-1], controls, strict=True)]
        return np.concatenate((states[0] - start, (states[1:] - followed).ravel()))

    def margins(unknowns: Array) -> Array:
        states, controls = parts(unknowns)
        lateral, yaw_rate = states[:-1, 3] ** 2 * controls[:, 0], np.diff(states[:, 2]) / dt
        return np.concatenate((4 - lateral, 4 + lateral, 1.75 - yaw_rate, 1.75 + yaw_rate))

    states = np.concatenate((reference, np.full((steps + 1, 1), start[3])), 1)
    bounds = ([(None, None)] * 3 + [(0, 35)]) * (steps + 1) + [(-0.2, 0.2), (-4, 4)] * steps
    constraints = [{"type": "eq", "fun": gaps}, {"type": "ineq", "fun": margins}]
    found = minimize(
        cost,
        np.concatenate((states.ravel(), np.zeros(2 * steps))),
        bounds=bounds,
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-10},
    )
    return parts(found.x)[0][:, :2]


def test_another_formulation_gives_the_same_paths() -> None:
    """To what differences of costs by finite steps can tell."""
    starts, references = some_drives(8, 4, seed=4)
    paths, _ = smooth(starts, references)
    for start, reference, path in zip(starts, references, paths, strict=True):
        np.testing.assert_allclose(path, transcribed(start, reference), rtol=0, atol=1e-3)


def test_what_stands_can_begin_to_drive() -> None:
    """A start at the lower limit of the speed has somewhere to go."""
    starts = np.array([[0.0, 0, 0, 0]])
    way = 0.5 * 1.0 * (np.arange(STEPS + 1) * smoothing.SECONDS) ** 2
    references = np.stack((way, 0 * way, 0 * way), -1)[None]
    assert can_be_smoothed(starts, references).all()
    paths, good = smooth(starts, references)
    assert good.all()
    np.testing.assert_allclose(paths[0], references[0, :, :2], rtol=0, atol=0.5)
