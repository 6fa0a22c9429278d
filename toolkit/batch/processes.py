"""Work in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from types import MappingProxyType
from typing import TypeVar

from toolkit.errors import CheckFailed
from toolkit.stops import stops_held

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_map(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Iterator[Result]]:
    """What a function, which is pickled, makes of each item, in the order of the items, by `workers` processes.

    At the end of the block, however it ends, no worker is left. Raises what a worker raises, and CheckFailed if one is
    ended from outside.
    """
    with process_pool(workers, "--workers") as executor:
        with interrupts_blocked():
            results = executor.map(function, items)
        yield results


@contextmanager
def process_pool(
    workers: int,
    option: str,
    begin: Callable[[], None] | None = None,
    preload: Sequence[str] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[ProcessPoolExecutor]:
    """So many processes, which `option` says; they are started by what is submitted within `interrupts_blocked`.

    Each calls `begin` first of all, which is pickled when it is started. Modules to `preload` are imported once, by a
    process that all are then forked from, which lives as long as this one; none of them may use a GPU, or start threads
    or processes, when it is imported. All of these have the environment of this process, and `variables`.

    At the end of the block, however it ends, none is left; what was submitted is done if it ends well. Raises
    CheckFailed if one is ended from outside.
    """
    others = set(multiprocessing.active_children())
    # Torch and ONNX Runtime have threads by now, which a forked process would lack.
    context = multiprocessing.get_context("forkserver" if preload else "spawn")
    environment = None
    if preload:
        context.set_forkserver_preload(list(preload))
        _start_forkserver(variables)
        environment = {**os.environ, **variables}
    executor = ProcessPoolExecutor(workers, context, _begin, (begin, environment))
    try:
        yield executor
        executor.shutdown()
    except BrokenProcessPool as error:
        raise CheckFailed(
            f"a worker process was ended from outside, perhaps for want of memory; run with fewer {option}"
        ) from error
    finally:
        # After a failure some may be in the middle of what nobody wants any more.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        executor.shutdown(cancel_futures=True)


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Processes that are started in the block never see Ctrl-C: it is the main process' matter, which ends them.

    A stop waits until they have been started: one that is started by half would belong to nobody, and complain.
    """
    with stops_held():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_forkserver(variables: Mapping[str, str]) -> None:
    """Start the process that others are forked from, if there is none; what fails is told to who submits something.

    It looks for modules where this process does. By itself it would look in the working folder first, which may hold
    another version of the toolkit.
    """
    searched = [place for place in sys.path if isinstance(place, str)]  # an import passes over all others
    places = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(searched)}
    with suppress(OSError):
        resource_tracker.ensure_running()  # which lets Ctrl-C through again when it starts a process
        with interrupts_blocked(), _variables({**places, **variables}):
            forkserver.ensure_running()


@contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Within the block, these are variables of this process, and of those that it starts."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _begin(begin: Callable[[], None] | None, environment: Mapping[str, str] | None) -> None:
    if environment is not None:  # what this process is forked from may be older than the variables of the main process
        os.environ.clear()
        os.environ.update(environment)
    end_with_main_process()
    if begin is not None:
        begin()


def end_with_main_process() -> None:
    """Have this process end with the main process, even if that is killed."""
    threading.Thread(target=_end_when_that_does, daemon=True).start()


def _end_when_that_does() -> None:
    main_process = multiprocessing.parent_process()
    assert main_process is not None
    main_process.join()
    os._exit(1)
