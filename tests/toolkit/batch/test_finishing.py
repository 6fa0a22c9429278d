"""Results finished beside the frames that follow: the same files in the same order, and errors in theirs."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.visualize.drives import full_result
from toolkit.batch.finishing import FRAMES_BEHIND, Finished, Finisher, finishing, in_order
from toolkit.data.stage_clock import Stage
from toolkit.errors import CheckFailed, InputError
from toolkit.runtime.results import FrameResult

RESULTS = [full_result(f"{number:04d}", 0.5 * number) for number in range(4)]


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


def written(folder: Path, *, pictures: bool, helpers: int, results: list[FrameResult]) -> list[Finished]:
    """What became of results in the folder."""
    folder.mkdir()
    with finishing(Finisher(folder, pictures), (), helpers) as finish:
        return list(in_order(map(finish.begin, results), finish.behind))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "pictures", [False, pytest.param(True, marks=pytest.mark.slow)]
)  # processes take seconds to start
def test_helpers_write_what_is_written_at_once(tmp_path: Path, pictures: bool) -> None:
    """To the last byte; and neither processes nor threads are left."""
    plan = RESULTS[1].plan
    assert plan is not None
    bad = replace(RESULTS[1], plan=replace(plan, points=np.full_like(plan.points, np.nan)))
    results = [RESULTS[0], bad, *RESULTS[2:]]
    threads = set(threading.enumerate())
    for helpers in (0, 2):
        finished = written(tmp_path / str(helpers), pictures=pictures, helpers=helpers, results=results)
        assert [one.left_out for one in finished] == [False, True, False, False]
        stages = {Stage.WRITE, Stage.DRAW} if pictures else {Stage.WRITE}
        assert [set(one.seconds) for one in finished] == [stages, set(), stages, stages]
    assert contents(tmp_path / "2") == contents(tmp_path / "0")
    assert len(contents(tmp_path / "0")) == 3 * (3 if pictures else 2)
    assert multiprocessing.active_children() == []
    assert set(threading.enumerate()) == threads


def test_results_wait_in_bounds_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    begun: list[str] = []

    def slowly(result: FrameResult, folder: Path) -> None:
        free.wait()

    def begin(finish: Any) -> Iterator[Future[Finished]]:
        for number in range(20):
            begun.append(str(number))
            if len(begun) == FRAMES_BEHIND + 1:
                threading.Timer(0.1, free.set).start()
            yield finish.begin(RESULTS[0])

    monkeypatch.setattr("toolkit.batch.finishing.write_result", slowly)
    with finishing(Finisher(tmp_path, pictures=False), (), 1) as finish:
        outcomes = in_order(begin(finish), finish.behind)
        next(outcomes)
        assert len(begun) == FRAMES_BEHIND + 1
        assert len(list(outcomes)) == 19


def test_an_interrupt_leaves_nothing_that_writes(tmp_path: Path) -> None:
    threads = set(threading.enumerate())
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyboardInterrupt))
        finish = stack.enter_context(finishing(Finisher(tmp_path, pictures=False), (), 1))
        for result in RESULTS:
            finish.begin(result)
        raise KeyboardInterrupt
    assert set(threading.enumerate()) == threads


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line(tmp_path: Path) -> None:
    def run() -> None:
        with finishing(Finisher(tmp_path, pictures=True), (), 1) as finish:
            for record in in_order(map(finish.begin, RESULTS), finish.behind):
                assert not record.left_out
                for child in multiprocessing.active_children():
                    child.kill()

    with pytest.raises(CheckFailed, match=r"a worker process was ended from outside, .* run with fewer --helpers"):
        run()
    assert multiprocessing.active_children() == []
