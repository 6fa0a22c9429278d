"""Whether a quantized network still drives: what it does on a drive beside what FP32 does, each with its own state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from toolkit.quantization.seen import Seen

LOST_OBJECTS = LOST_IDS = 0.1
"""Share of FP32's objects that may be lost, or of the own that may be new; and of ids that may not live on."""
MATCH_METRES = 2.0
"""Between the centres of objects of one class that are taken for the same, as in the detection metric of nuScenes."""
CHANGED_CELLS = 0.1
"""Share by which the number of filled cells of a grid may differ over the drive."""
FEW_CELLS = 2e-3
"""Share of a grid that may be filled or not whatever FP32 says: so many cells lie near their threshold."""
PLAN_METRES = 0.1
"""Mean distance between the points of both plans."""
STATE_DRIFT = 0.1
"""Relative change, from the first to the last quarter of a drive, of a state's norm over that of FP32's."""

_BEYOND_ALL = 1e6
Pair = tuple[Seen, Seen]
"""One frame in FP32, and as quantized."""


@dataclass(frozen=True)
class Finding:
    """What was measured of one subject: `error` is in the unit that `text` says, and must not exceed `bound`."""

    subject: str
    error: float
    bound: float
    text: str

    @property
    def severity(self) -> float:
        """Error over bound: more than 1 is a failure."""
        if math.isnan(self.error):
            return math.inf
        return self.error / self.bound if self.bound else (math.inf if self.error else 0.0)

    @property
    def holds(self) -> bool:
        return self.severity <= 1

    def __str__(self) -> str:
        return f"{self.subject}: {self.text} (bound {self.bound:g})"


def severity_text(finding: Finding) -> str:
    """Error over bound, for people to read."""
    return f"{finding.severity:.2f}" if finding.severity < _BEYOND_ALL else "beyond all"


def judge(expected: Sequence[Seen], actual: Sequence[Seen]) -> tuple[Finding, ...]:
    """Every gate over the frames of a drive, `expected` of FP32, all finite, and `actual` of the quantized network.

    If that gives values that are not finite, this is the only finding.
    """
    pairs = list(zip(expected, actual, strict=True))
    broken = [(number, seen.broken[0]) for number, (_, seen) in enumerate(pairs) if seen.broken]
    if broken:
        number, tensor = broken[0]
        return (Finding("finite values", math.inf, 0.0, f"NaN or infinity in {tensor!r} from frame {number} on"),)
    finite = Finding("finite values", 0.0, 0.0, f"in all of {len(pairs)} frames")
    return finite, *_objects(pairs), *_grids(pairs), *_plans(pairs), *_states(pairs)


def worst(findings: Sequence[Finding]) -> Finding:
    """The one nearest to its bound, or farthest beyond it."""
    return max(findings, key=lambda finding: finding.severity)


def _objects(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Objects that have a counterpart of their class nearby, and ids that live on where FP32's do."""
    matches = [_match(expected, actual) for expected, actual in pairs]
    known, given = (sum(len(pair[side].ids) for pair in pairs) for side in (0, 1))
    if not known and not given:
        return
    found = sum(map(len, matches))
    lost, new = (known - found) / max(known, 1), (given - found) / max(given, 1)
    text = f"{found} of {known} found again, {given - found} new"
    yield Finding("objects", max(lost, new), LOST_OBJECTS, text)
    lived = kept = 0
    for (before, earlier), (now, later) in pairwise(zip(pairs, matches, strict=True)):
        if not now[0].continues:
            continue
        partner = {before[0].ids[i]: before[1].ids[j] for i, j in earlier.items()}
        followed = [(now[0].ids[i], now[1].ids[j]) for i, j in later.items() if now[0].ids[i] in partner]
        lived += len(followed)
        kept += sum(partner[track] == own for track, own in followed)
    if lived:
        yield Finding("track ids", (lived - kept) / lived, LOST_IDS, f"{kept} of {lived} live on as FP32's do")


def _match(expected: Seen, actual: Seen) -> dict[int, int]:
    """Places of FP32's objects and of their counterparts, of one class and no farther than `MATCH_METRES` away."""
    if not expected.ids or not actual.ids:
        return {}
    apart = np.linalg.norm(expected.places[:, None] - actual.places[None], axis=-1)
    same = np.array(expected.labels)[:, None] == np.array(actual.labels)[None]
    allowed = same & (apart <= MATCH_METRES)
    rows, columns = linear_sum_assignment(np.where(allowed, apart, 1e3 * MATCH_METRES))
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if allowed[i, j]}


def _grids(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """How many cells are filled over the drive, and whether a frame's are gone altogether."""
    for name in pairs[0][0].grids:
        cells = [(expected.grids[name], actual.grids[name]) for expected, actual in pairs]
        few = FEW_CELLS * cells[0][0].size
        emptied = [i for i, (there, here) in enumerate(cells) if not here.filled and there.filled > few]
        known, given = (sum(each[side].filled for each in cells) for side in (0, 1))
        if emptied:
            yield Finding(name, math.inf, CHANGED_CELLS, f"empty in frame {emptied[0]}, where FP32 fills cells")
        else:
            share = abs(given - known) / max(known, few * len(cells), 1)
            yield Finding(name, share, CHANGED_CELLS, f"{given} cells are filled, {known} by FP32")


def _plans(pairs: Sequence[Pair]) -> Iterator[Finding]:
    plans = [(expected.plan, actual.plan) for expected, actual in pairs]
    apart = [np.linalg.norm(a - b, axis=-1).mean() for a, b in plans if a is not None and b is not None]
    if apart:
        mean = float(np.mean(apart))
        yield Finding("plan", mean, PLAN_METRES, f"{mean:.3f} m apart in the mean")


def _states(pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Of each state, whether its norm moves away from FP32's from the first quarter of the drive to the last."""
    quarter = max(1, len(pairs) // 4)
    for name in pairs[0][0].norms:
        ratios = [b.norms[name] / a.norms[name] for a, b in pairs if a.norms[name] > 0]
        if len(ratios) < 2:
            continue
        first, last = (float(np.mean(part)) for part in (ratios[:quarter], ratios[-quarter:]))
        drift = abs(last / first - 1) if first else math.inf
        yield Finding(
            f"state {name!r}", drift, STATE_DRIFT, f"norm is {last:.3f} of FP32's in the end, was {first:.3f}"
        )
