"""Poses: quaternion and matrix are two forms of the same rotation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.data.frames import Pose


def test_the_rotation_follows_the_right_hand_rule() -> None:
    quarter_turn = Pose(np.array([math.sqrt(0.5), 0, 0, math.sqrt(0.5)]), np.zeros(3))
    np.testing.assert_allclose(quarter_turn.rotation @ [1.0, 0, 0], [0, 1, 0], atol=1e-15)
    assert quarter_turn.yaw == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("quaternion", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (0.5, -0.5, 0.5, -0.5), (1, 2, 3, 4)])
def test_a_matrix_gives_back_its_quaternion(quaternion: tuple[float, ...]) -> None:
    unit = np.array(quaternion) / np.linalg.norm(quaternion)
    pose = Pose.from_matrix(Pose(unit, np.zeros(3)).rotation, np.ones(3))
    sign = np.sign(unit @ pose.quaternion)
    np.testing.assert_allclose(pose.quaternion * sign, unit, atol=1e-12)
    assert pose.quaternion[0] >= 0


def test_opposite_quaternions_are_the_same_rotation_and_keep_their_sign() -> None:
    unit = np.array([0.6, 0, 0, -0.8])
    pose, opposite = Pose(unit, np.zeros(3)), Pose(-unit, np.zeros(3))
    np.testing.assert_array_equal(pose.rotation, opposite.rotation)
    np.testing.assert_array_equal(opposite.quaternion, -unit)
