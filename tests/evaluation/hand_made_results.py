"""Folders of results of the scenes of `judging_plugin`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.evaluation.judging_plugin import RIGHT
from toolkit.data.frames import Command
from toolkit.runtime.result_writer import write_result
from toolkit.runtime.results import FrameResult, PlanResult
from toolkit.runtime.run_record import FrameRecord, RunRecord

ERRORS = {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0, 4: 2.0, 5: 0.1}
"""How far ahead of where it should each frame's plan ends (m)."""


def result(number: int) -> FrameResult:
    """A plan, and nothing else."""
    points = np.array([[0.0, 5.0], [0.0, RIGHT + ERRORS[number]]], np.float32)
    return FrameResult(
        f"{number:05}_frame{number}", f"scene{number // 2}", 0.5, Command.LEFT, plan=PlanResult(points, 0.5)
    )


def write_results(
    folder: Path, numbers: Sequence[int] = tuple(ERRORS), left_out: Sequence[int] = (), **head: Any
) -> Path:
    """A folder as `run` writes it."""
    folder.mkdir()
    results = [result(number) for number in numbers]
    records = []
    for number, one in zip(numbers, results, strict=True):
        if number not in left_out:
            write_result(one, folder)
        records.append(FrameRecord.of_result(one, {}, left_out=number in left_out))
    record = RunRecord("d" * 64, "onnxruntime", tuple(records))
    replace(record, **head).write(folder)
    return folder
