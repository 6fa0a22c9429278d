"""Results finished beside the frames that follow: the same files in the same order, and errors in theirs."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.visualize.drives import full_result
from toolkit.batch.finishing import FRAMES_BEHIND_EACH, Finisher, Finishing, Means, at_once, in_order, in_processes
from toolkit.config.model import ModelConfig
from toolkit.data.stage_clock import Stage
from toolkit.errors import CheckFailed, InputError
from toolkit.runtime.interpreter import FrameOutputs, Interpreter
from toolkit.runtime.results import FrameResult
from toolkit.runtime.run_record import FrameRecord
from toolkit.specs import Refinement

RESULTS = [full_result(f"{number:04d}", 0.5 * number) for number in range(4)]


@dataclass(frozen=True)
class Job:
    """Outputs add to results what nobody interprets; results pass on when `gate` is there, if given."""

    gate: Path | None = None

    def open_means(self) -> Means:
        return Means(Interpreter(ModelConfig(), (), (), [Refinement("--wait", "", self._passed)]), ())

    def _passed(self, result: FrameResult) -> FrameResult:
        while self.gate is not None and not self.gate.exists():
            time.sleep(0.01)
        return result


def begun(finish: Finishing, results: list[FrameResult]) -> Iterator[Future[FrameRecord]]:
    for number, result in enumerate(results):
        yield finish.begin(FrameOutputs(result, {"marks": np.full(5, number, np.int32)}))


@dataclass
class Waiting:
    """An outcome that is done when it is waited for."""

    value: Any
    is_done: bool = False

    def done(self) -> bool:
        return self.is_done

    def result(self) -> Any:
        self.is_done = True
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class TestInOrder:
    def test_what_is_done_comes_at_once(self) -> None:
        begun: list[Waiting] = []

        def begin() -> Iterator[Waiting]:
            for number in range(5):
                begun.append(Waiting(number, is_done=number < 2))
                yield begun[-1]

        outcomes = in_order(begin(), behind=2)
        assert [next(outcomes), len(begun), next(outcomes), len(begun)] == [0, 1, 1, 2]
        assert [next(outcomes), len(begun)] == [2, 5]  # waited for because more than two would wait
        assert list(outcomes) == [3, 4]

    def test_an_error_at_the_beginning_loses_nothing_that_was_begun(self) -> None:
        def begin() -> Iterator[Waiting]:
            yield Waiting(0)
            yield Waiting(1)
            raise InputError("frame 2 is bad")

        outcomes = in_order(begin(), behind=5)
        assert [next(outcomes), next(outcomes)] == [0, 1]
        with pytest.raises(InputError, match="frame 2 is bad"):
            next(outcomes)

    def test_an_error_at_the_end_comes_in_its_turn(self) -> None:
        outcomes = in_order(map(Waiting, [0, InputError("no room for 1"), 2]), behind=5)
        assert next(outcomes) == 0
        with pytest.raises(InputError, match="no room for 1"):
            next(outcomes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow  # processes take seconds to start
@pytest.mark.parametrize("pictures", [False, True])
def test_helpers_write_what_is_written_at_once(tmp_path: Path, pictures: bool) -> None:
    """To the last byte; and neither processes nor threads are left."""
    plan = RESULTS[1].plan
    assert plan is not None
    bad = replace(RESULTS[1], plan=replace(plan, points=np.full_like(plan.points, np.nan)))
    results = [RESULTS[0], bad, *RESULTS[2:]]
    threads = set(threading.enumerate())
    for name in ("at once", "processes"):
        (tmp_path / name).mkdir()
        finisher = Finisher(tmp_path / name, pictures)
        with ExitStack() as stack:
            if name == "processes":
                finish = stack.enter_context(in_processes(finisher, Job(), 2))
            else:
                finish = at_once(finisher, Job().open_means())
            records = list(in_order(begun(finish, results), finish.behind))
        assert [record.left_out for record in records] == [False, True, False, False]
        stages = {Stage.POSTPROCESS, Stage.WRITE, *([Stage.DRAW] if pictures else [])}
        assert [set(record.seconds) for record in records] == [stages, {Stage.POSTPROCESS}, stages, stages]
    assert contents(tmp_path / "processes") == contents(tmp_path / "at once")
    assert len(contents(tmp_path / "at once")) == 3 * (3 if pictures else 2)
    assert multiprocessing.active_children() == []
    assert set(threading.enumerate()) == threads


@pytest.mark.slow
def test_results_wait_in_bounds_for_a_slow_disk(tmp_path: Path) -> None:
    gate, given = tmp_path / "gate", []

    def begin(finish: Finishing) -> Iterator[Future[FrameRecord]]:
        for future in begun(finish, [RESULTS[0]] * 20):
            given.append(future)
            if len(given) == FRAMES_BEHIND_EACH + 1:
                threading.Timer(0.1, gate.touch).start()
            yield future

    with in_processes(Finisher(tmp_path, pictures=False), Job(gate), 1) as finish:
        outcomes = in_order(begin(finish), finish.behind)
        next(outcomes)
        assert len(given) == FRAMES_BEHIND_EACH + 1
        assert len(list(outcomes)) == 19


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_that_writes(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        finish = stack.enter_context(in_processes(Finisher(tmp_path, pictures=False), Job(), 1))
        list(begun(finish, RESULTS))
        raise KeyboardInterrupt
    assert set(threading.enumerate()) == threads
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line(tmp_path: Path) -> None:
    """And leaves no memory that it shared."""

    def run() -> None:
        with in_processes(Finisher(tmp_path, pictures=True), Job(), 1) as finish:
            for record in in_order(begun(finish, RESULTS), finish.behind):
                assert not record.left_out
                for child in multiprocessing.active_children():
                    if sys.platform == "linux":
                        assert "memfd:" in Path(f"/proc/{child.pid}/maps").read_text()
                    child.kill()

    with pytest.raises(CheckFailed, match=r"a worker process was ended from outside, .* run with fewer --helpers"):
        run()
    assert multiprocessing.active_children() == []
    gc.collect()
    if sys.platform == "linux":
        assert "memfd:" not in Path("/proc/self/maps").read_text()
