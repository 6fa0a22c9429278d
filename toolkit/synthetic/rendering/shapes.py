"""What vehicles and other things look like: meshes that fill the box of an actor (x forward, ground at z = 0)."""

from __future__ import annotations

from toolkit.synthetic.rendering.mesh import Mesh, Part, box, end_decal, extrude, join, side_decal, wheels
from toolkit.synthetic.traffic.actors import BARRIER, BUS, CAR, CONE, EXCAVATOR, TRAILER, TRUCK, Actor
from toolkit.synthetic.world.paint import Color

_GLASS: Color = (38, 46, 54)
_TRIM: Color = (30, 30, 32)
_LAMP: Color = (240, 238, 220)
_TAIL: Color = (176, 22, 24)
_PLATE: Color = (226, 226, 214)


def solid_shape(actor: Actor) -> Mesh | None:
    """The mesh of an actor; None for those that are drawn flat (people and two-wheelers)."""
    width, length, height = actor.size
    makers = {CAR: _car, TRUCK: _truck, BUS: _bus, TRAILER: _trailer, EXCAVATOR: _excavator, CONE: _cone,
              BARRIER: _barrier}  # fmt: skip
    maker = makers.get(actor.kind)
    return join(maker(width / 2, length / 2, height, actor.color)) if maker else None


def _darker(color: Color, share: float) -> Color:
    r, g, b = color
    return round(r * share), round(g * share), round(b * share)


def _car(half: float, end: float, height: float, paint: Color) -> list[Part]:
    h, side = height, half * 0.97
    profile = [(-end, 0.16 * h), (end, 0.16 * h), (end, 0.40 * h), (0.92 * end, 0.53 * h), (-0.94 * end, 0.60 * h),
               (-end, 0.52 * h)]  # fmt: skip
    body = extrude(profile, side, side * 0.97, paint)
    skirt = [(-end, 0.16 * h), (end, 0.16 * h), (end, 0.25 * h), (-end, 0.25 * h)]
    body += side_decal(skirt, side + 0.004, _darker(paint, 0.55))
    body += wheels((-0.60 * end, 0.62 * end), 0.215 * h, side + 0.01)
    for x, lamp in ((end + 0.004, _LAMP), (-end - 0.004, _TAIL)):
        z = (0.38 * h, 0.48 * h) if x < 0 else (0.33 * h, 0.41 * h)
        body += [end_decal(x, (-side, side), (0.16 * h, 0.24 * h), _TRIM)]
        body += [end_decal(x, (s * side * 0.55, s * side * 0.96), z, lamp) for s in (-1, 1)]
        body += [end_decal(x, (-0.26, 0.26), (0.27 * h, 0.34 * h), _PLATE)]
    cabin_profile = [(-0.86 * end, 0.58 * h), (0.46 * end, 0.555 * h), (0.12 * end, 0.985 * h), (-0.60 * end, h)]
    cabin = extrude(cabin_profile, side * 0.94, side * 0.76, paint)
    glass = extrude(
        [(-0.865 * end, 0.60 * h), (0.465 * end, 0.575 * h), (0.135 * end, 0.965 * h), (-0.61 * end, 0.975 * h)],
        side * 0.945, side * 0.79, _GLASS,
    )  # fmt: skip
    cabin += [glass[0], glass[1], glass[3], glass[5]]
    pillars = [(-0.16 * end, 0.58 * h), (-0.09 * end, 0.58 * h), (-0.09 * end, 0.97 * h), (-0.16 * end, 0.97 * h)]
    cabin += extrude(pillars, side * 0.95, side * 0.80, paint)[:2]
    return [body, cabin]


def _truck(half: float, end: float, height: float, paint: Color) -> list[Part]:
    front = 0.48 * end
    cab = extrude([(front, 0.35), (end, 0.35), (end, 0.5 * height), (0.93 * end, 0.82 * height),
                   (front, 0.82 * height)], half, half * 0.96, paint)  # fmt: skip
    window = [(front + 0.25, 0.5 * height), (end - 0.2, 0.5 * height), (0.92 * end, 0.76 * height),
              (front + 0.25, 0.76 * height)]  # fmt: skip
    cab += side_decal(window, half + 0.005, _GLASS)
    cab += [end_decal(end + 0.01, (-half * 0.9, half * 0.9), (0.5 * height, 0.74 * height), _GLASS)]
    cab += [end_decal(end + 0.01, (-half, half), (0.35, 0.75), _TRIM)]
    cab += [end_decal(end + 0.02, (s * half * 0.6, s * half * 0.92), (0.6, 0.8), _LAMP) for s in (-1, 1)]
    cab += wheels((0.76 * end,), 0.48, half + 0.01)
    cargo = box((-end, front - 0.12), half, (0.75, height), (214, 214, 208))
    cargo += side_decal([(-0.8 * end, 0.5 * height), (0.2 * end, 0.5 * height), (0.2 * end, 0.72 * height),
                         (-0.8 * end, 0.72 * height)], half + 0.005, paint)  # fmt: skip
    cargo += [end_decal(-end - 0.01, (-0.03, 0.03), (0.8, height - 0.1), _TRIM)]
    cargo += [end_decal(-end - 0.01, (s * half * 0.7, s * half * 0.95), (0.8, 0.95), _TAIL) for s in (-1, 1)]
    frame = box((-end * 0.97, front), half * 0.85, (0.4, 0.75), _TRIM)
    frame += wheels((-0.72 * end, -0.45 * end), 0.48, half * 0.98)
    return [frame, cargo, cab]


def _bus(half: float, end: float, height: float, paint: Color) -> list[Part]:
    body = extrude([(-end, 0.3), (end, 0.3), (end, 0.86 * height), (0.97 * end, height), (-0.98 * end, height),
                    (-end, 0.9 * height)], half, half * 0.97, paint)  # fmt: skip
    body += side_decal([(-end, 0.3), (end, 0.3), (end, 0.62), (-end, 0.62)], half + 0.004, _darker(paint, 0.5))
    panes = 7
    for i in range(panes):
        a, b = (-0.95 + 1.9 * (i + g) / panes for g in (0.04, 0.96))
        pane = [(a * end, 0.46 * height), (b * end, 0.46 * height), (b * end, 0.8 * height), (a * end, 0.8 * height)]
        body += side_decal(pane, half * 0.995 + 0.01, _GLASS)
    body += [end_decal(end + 0.01, (-half * 0.92, half * 0.92), (0.36 * height, 0.8 * height), _GLASS)]
    body += [end_decal(end + 0.01, (-half * 0.6, half * 0.6), (0.84 * height, 0.93 * height), (236, 168, 40))]
    body += [end_decal(-end - 0.01, (-half * 0.8, half * 0.8), (0.5 * height, 0.8 * height), _GLASS)]
    for x, lamp in ((end + 0.02, _LAMP), (-end - 0.02, _TAIL)):
        body += [end_decal(x, (s * half * 0.6, s * half * 0.92), (0.55, 0.8), lamp) for s in (-1, 1)]
    body += wheels((-0.55 * end, 0.62 * end), 0.5, half + 0.012)
    return [body]


def _trailer(half: float, end: float, height: float, paint: Color) -> list[Part]:
    cargo = box((-end, end), half, (1.0, height), (206, 208, 210))
    cargo += side_decal([(-end, 1.0), (end, 1.0), (end, 1.25), (-end, 1.25)], half + 0.004, paint)
    cargo += [end_decal(-end - 0.01, (-0.03, 0.03), (1.05, height - 0.1), _TRIM)]
    cargo += [end_decal(-end - 0.01, (s * half * 0.7, s * half * 0.95), (1.0, 1.18), _TAIL) for s in (-1, 1)]
    frame = box((-end, 0.8 * end), half * 0.8, (0.55, 1.0), _TRIM)
    frame += wheels((-0.8 * end, -0.52 * end), 0.5, half * 0.96)
    frame += side_decal([(0.5 * end, 0.0), (0.54 * end, 0.0), (0.54 * end, 1.0), (0.5 * end, 1.0)], half * 0.9, _TRIM)
    return [frame, cargo]


def _excavator(half: float, end: float, height: float, _: Color) -> list[Part]:
    yellow: Color = (222, 166, 32)
    tracks = box((-0.7 * end, 0.55 * end), half, (0.0, 0.75), (44, 44, 46))
    house = box((-0.8 * end, 0.15 * end), half * 0.92, (0.8, 0.62 * height), yellow)
    cabin = box((-0.25 * end, 0.2 * end), half * 0.5, (0.62 * height, height), yellow)
    pane = [(-0.2 * end, 0.66 * height), (0.15 * end, 0.66 * height), (0.15 * end, 0.95 * height),
            (-0.2 * end, 0.95 * height)]  # fmt: skip
    cabin += side_decal(pane, half * 0.5 + 0.01, _GLASS)
    cabin += [end_decal(0.2 * end + 0.01, (-half * 0.44, half * 0.44), (0.66 * height, 0.95 * height), _GLASS)]
    boom = extrude([(0.15 * end, 0.5 * height), (0.2 * end, 0.4 * height), (0.75 * end, 0.86 * height),
                    (0.7 * end, 0.97 * height)], 0.2, 0.2, yellow)  # fmt: skip
    arm = extrude([(0.75 * end, 0.3 * height), (0.85 * end, 0.3 * height), (0.8 * end, 0.92 * height),
                   (0.7 * end, 0.92 * height)], 0.17, 0.17, yellow)  # fmt: skip
    bucket = box((0.7 * end, end), half * 0.45, (0.05, 0.3 * height), (70, 70, 72))
    return [tracks, house, cabin, boom, arm, bucket]


def _cone(half: float, _end: float, height: float, _: Color) -> list[Part]:
    def ring(low: float, high: float, color: Color) -> Part:
        radii = [half * (0.78 - 0.68 * z) for z in (low, high)]
        profile = [(-radii[0], low * height), (radii[0], low * height), (radii[1], high * height),
                   (-radii[1], high * height)]  # fmt: skip
        return extrude(profile, radii[0], radii[1], color)

    orange, white = (226, 92, 24), (238, 236, 230)
    base = box((-half, half), half, (0.0, 0.06 * height), _TRIM)
    bands = ((0.06, 0.35, orange), (0.35, 0.52, white), (0.52, 0.7, orange), (0.7, 0.84, white), (0.84, 1.0, orange))
    return [base, [f for low, high, color in bands for f in ring(low, high, color)]]


def _barrier(half: float, end: float, height: float, _: Color) -> list[Part]:
    """A water-filled plastic barrier; its long side lies across the heading."""
    color = (214, 84, 34)
    foot = box((-end, end), half, (0.0, 0.3 * height), color)
    wall = extrude([(-0.7 * end, 0.3 * height), (0.7 * end, 0.3 * height), (0.4 * end, height), (-0.4 * end, height)],
                   half, half, color)  # fmt: skip
    for x in (0.62 * end, -0.62 * end):
        wall += [end_decal(x, (-half * 0.8, half * 0.8), (0.5 * height, 0.72 * height), (240, 238, 232))]
    return [foot, wall]
