"""The table of how far precisions agree with FP32, of decisions that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.replayed_precisions import Row, overlap, table
from toolkit.quantization.gates import Finding


def test_cells_are_compared_over_all_frames() -> None:
    """A frame that is not finite has none, and a grid that nobody fills has no share."""
    full, half, none = np.ones(4, bool), np.array([True, True, False, False]), np.zeros(4, bool)
    expected = [{"lanes": full, "cells": none}, {"lanes": half, "cells": none}, {"lanes": full, "cells": none}]
    actual = [{"lanes": half, "cells": none}, {"lanes": half, "cells": none}, {}]
    shares = overlap(expected, actual)
    assert shares == pytest.approx({"lanes": 4 / 6, "cells": np.nan}, nan_ok=True)


def test_a_row_has_each_gate_and_the_state_that_moves_farthest() -> None:
    findings = (
        Finding("plan", 0.2, 0.1, "0.200 m apart in the mean"),
        Finding("state 'bev'", 0.01, 0.1, "norm is 1.010 of FP32's in the end, was 1.000"),
        Finding("state 'query'", 0.02, 0.1, "norm is 0.980 of FP32's in the end, was 1.000"),
    )
    lines = table([Row("INT8", "7", findings, {"lanes": 0.9})]).splitlines()
    assert lines[0] == "|  | layers | plan | lanes: IoU with FP32 | worst state | gates |"
    assert lines[2] == (
        "| INT8 | 7 | 0.200 m apart in the mean | 0.900 | norm is 0.980 of FP32's in the end, was 1.000 | "
        "fails: plan 2.00 |"
    )
