"""The vehicle bus of a scene, as the files of nuScenes' CAN bus expansion, consistent with the ego vehicle's motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from toolkit.synthetic.schema.records import Row, rounded
from toolkit.synthetic.sensors.rig import ego_pose
from toolkit.synthetic.traffic.actors import Motion, MotionState
from toolkit.synthetic.traffic.population import REAR_AXLE
from toolkit.synthetic.world.town import Town

_GRAVITY = 9.81
_WHEEL_RADIUS, _WHEELBASE, _TRACK, _STEERING_RATIO = 0.305, 2.588, 1.51, 16.0
"""Of a small electric car: metres, and turns of the steering wheel per turn of the wheels."""
_MARGIN = 0.5
"""Seconds on the bus before the first and after the last key frame."""
_ROUTE_STEP, _ROUTE_BEYOND = 1.0, 60.0

Message = Callable[[MotionState, float], Row]


def can_bus(town: Town, ego: Motion, start: int, seconds: float) -> dict[str, Any]:
    """The content of `can_bus/SCENE_NAME.json` by the message's name; `start` is the first key frame's time in µs."""
    messages = {
        "pose": (50, _pose_message(town)),
        "ms_imu": (100, _imu_message(town)),
        "steeranglefeedback": (100, lambda state, _: {"value": round(_wheel_angle(state) * _STEERING_RATIO, 5)}),
        "zoesensors": (100, _pedals),
        "zoe_veh_info": (100, _vehicle_info),
        "vehicle_monitor": (2, _monitor),
    }
    files: dict[str, Any] = {}
    for name, (rate, message) in messages.items():
        files[name] = list(_sampled(ego, start, seconds, rate, message))
    files["meta"] = {name: _statistics(rows) for name, rows in files.items()}
    files["route"] = _route(town, ego, seconds)
    return files


def _sampled(ego: Motion, start: int, seconds: float, rate: int, message: Message) -> Iterator[Row]:
    for i in range(math.ceil((seconds + 2 * _MARGIN) * rate) + 1):
        time = i / rate - _MARGIN
        yield {"utime": start + round(time * 1e6), **message(ego.at(time, -REAR_AXLE), time)}


def _acceleration(state: MotionState) -> list[float]:
    """What an accelerometer on a level road feels, in the ego frame, m/s²."""
    return rounded([state.acceleration, state.speed * state.speed * state.curvature, _GRAVITY])


def _rotation_rate(state: MotionState) -> list[float]:
    return rounded([0.0, 0.0, state.speed * state.curvature], 6)


def _wheel_angle(state: MotionState) -> float:
    """The front wheels' angle, radians, positive to the left."""
    return math.atan(_WHEELBASE * state.curvature)


def _pose_message(town: Town) -> Message:
    def message(state: MotionState, _: float) -> Row:
        pose = ego_pose(*town.pose_to_global(state.pose))
        return {
            "accel": _acceleration(state),
            "orientation": rounded(pose.quaternion, 8),
            "pos": rounded(pose.translation),
            "rotation_rate": _rotation_rate(state),
            "vel": rounded([state.speed, 0.0, 0.0]),
        }

    return message


def _imu_message(town: Town) -> Message:
    def message(state: MotionState, _: float) -> Row:
        pose = ego_pose(*town.pose_to_global(state.pose))
        return {
            "linear_accel": _acceleration(state),
            "q": rounded(pose.quaternion, 8),
            "rotation_rate": _rotation_rate(state),
        }

    return message


def _pedals(state: MotionState, _: float) -> Row:
    return {
        "brake_sensor": round(0.166 + 0.05 * max(0.0, -state.acceleration), 5),
        "steering_sensor": round(_wheel_angle(state) * _STEERING_RATIO / (3 * math.pi), 5),
        "throttle_sensor": round(0.105 + 0.05 * max(0.0, state.acceleration), 5),
    }


def _rpm(speed: float) -> float:
    return round(speed / (2 * math.pi * _WHEEL_RADIUS) * 60, 3)


def _vehicle_info(state: MotionState, _: float) -> Row:
    turn = state.curvature * _TRACK / 2
    left, right = _rpm(state.speed * (1 - turn)), _rpm(state.speed * (1 + turn))
    return {
        "FL_wheel_speed": left, "FR_wheel_speed": right, "RL_wheel_speed": left, "RR_wheel_speed": right,
        "left_solar": 0.0, "right_solar": 0.0,
        "longitudinal_accel": round(state.acceleration, 4),
        "transversal_accel": round(state.speed * state.speed * state.curvature, 4),
        "meanEffTorque": round(110.0 * state.acceleration, 2),
        "requestedTorqueAfterProc": round(110.0 * state.acceleration, 2),
        "odom": 0.0, "odom_speed": round(state.speed * 3.6, 3),
        "pedal_cc": 0.0, "regen": 0.0,
        "steer_corrected": round(math.degrees(_wheel_angle(state) * _STEERING_RATIO), 2),
        "steer_offset_can": 0.0,
        "steer_raw": round(math.degrees(_wheel_angle(state) * _STEERING_RATIO), 2),
    }  # fmt: skip


def _monitor(state: MotionState, time: float) -> Row:
    rpm = _rpm(state.speed)
    return {
        "available_distance": 110, "battery_level": 80,
        "brake": round(max(0.0, -state.acceleration) * 12), "brake_switch": 3 if state.acceleration < -0.3 else 1,
        "gear_position": 7, "left_signal": int(state.curvature > 0.01), "right_signal": int(state.curvature < -0.01),
        "rear_left_rpm": rpm, "rear_right_rpm": rpm,
        "steering": round(math.degrees(_wheel_angle(state) * _STEERING_RATIO), 2), "steering_speed": 0.0,
        "throttle": round(max(0.0, state.acceleration) * 120),
        "vehicle_speed": round(state.speed * 3.6, 3),
        "yaw_rate": round(math.degrees(state.speed * state.curvature), 4),
    }  # fmt: skip


def _statistics(rows: list[Row]) -> Row:
    """Extremes, mean and deviation of every field, as in nuScenes' `meta` files."""
    span = (rows[-1]["utime"] - rows[0]["utime"]) / 1e6
    fields = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        fields[name] = {
            statistic: np.round(getattr(values, statistic)(axis=0), 4).tolist()
            for statistic in ("max", "mean", "min", "std")
        }
    return {
        "message_count": len(rows), "message_freq": round((len(rows) - 1) / span, 4), "timespan": span,
        "var_stats": fields,
    }  # fmt: skip


def _route(town: Town, ego: Motion, seconds: float) -> list[list[float]]:
    """The planned way, a point a metre, and some way beyond the scene's end."""
    begin, end = ego.at(-_MARGIN, -REAR_AXLE).distance, ego.at(seconds).distance + _ROUTE_BEYOND
    points = town.to_global(ego.curve.poses(np.arange(begin, end, _ROUTE_STEP))[:, :2])
    return [rounded(point) for point in points]
