"""All submodules of a network to ONNX: by this process and a second one, where that is safe."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import torch
from onnx import ModelProto

from toolkit.conversion.export import export_submodule
from toolkit.conversion.prepare import Progress
from toolkit.network import Network
from toolkit.ops.spec import CustomOp
from toolkit.specs import Submodule
from toolkit.stops import end_with_parent, stops_blocked, stops_held

LONGEST = 1200.0
"""Seconds that the second process may take for a submodule: a fork can be stuck in a lock that a thread of this process
held."""


def export_submodules(network: Network, ops: Sequence[CustomOp], progress: Progress) -> dict[str, ModelProto]:
    """What `export_submodule` makes of every submodule of a network, by name. Raises InputError as it does.

    This process and the second one take the largest that is left. What that does not deliver, for want of memory or for
    an error, is exported here, where the error then comes up.
    """
    waiting = largest_first(network)
    pieces: dict[str, ModelProto] = {}

    def export_here() -> None:
        for submodule in _taken(waiting):
            with progress(f"export {submodule.name}"):
                module = network.parts[submodule.name]
                pieces[submodule.name] = export_submodule(network.graph, submodule, module, ops)

    if works_in_two():
        with ThreadPoolExecutor(1) as thread, _second_process(network, ops) as connection:
            others = thread.submit(_export_there, waiting, connection)
            export_here()
            with progress("export the rest, in a second process"):
                pieces |= others.result()
    export_here()
    return pieces


def works_in_two() -> bool:
    """Whether a second process is of use, and may be a fork: a GPU's driver does not know in forked ones any more."""
    return sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1 and not torch.cuda.is_available()


def largest_first(network: Network) -> deque[Submodule]:
    """The submodules by their number of modules, which the time of an export goes by.

    Short ones at the end leave neither process waiting for the other for long.
    """

    def size(submodule: Submodule) -> int:
        return sum(1 for _ in network.parts[submodule.name].modules())

    return deque(sorted(network.graph.submodules, key=size, reverse=True))


def _taken(waiting: deque[Submodule]) -> Iterator[Submodule]:
    """What can be taken until nothing is left, others taking too."""
    with suppress(IndexError):
        while True:
            yield waiting.popleft()


def _export_there(waiting: deque[Submodule], connection: Connection) -> dict[str, ModelProto]:
    """Have the second process export what is left; as soon as it fails, what it was at waits again."""
    pieces: dict[str, ModelProto] = {}
    for submodule in _taken(waiting):
        try:
            connection.send(submodule.name)
            if not connection.poll(LONGEST):
                raise EOFError
            pieces[submodule.name] = ModelProto.FromString(connection.recv_bytes())
        except (EOFError, OSError):
            waiting.append(submodule)
            break
    return pieces


@contextmanager
def _second_process(network: Network, ops: Sequence[CustomOp]) -> Iterator[Connection]:
    """A process that shares the network's memory, and ends with the block or with this one."""
    ours, theirs = multiprocessing.Pipe()
    arguments = (theirs, network, ops, os.getpid())
    process = multiprocessing.get_context("fork").Process(target=_serve, args=arguments, daemon=True)
    try:
        with stops_held(), stops_blocked():  # they concern this process, which ends the other one
            process.start()
        theirs.close()
        yield ours
    finally:
        if process.pid is not None:
            process.kill()
            process.join()


def _serve(connection: Connection, network: Network, ops: Sequence[CustomOp], parent: int) -> None:
    """Export submodules by name until there are no more, or one fails."""
    end_with_parent(parent)
    torch.set_num_threads(1)  # the others of torch's threads were not forked
    submodules = {submodule.name: submodule for submodule in network.graph.submodules}
    with suppress(Exception):
        while True:
            name = connection.recv()
            piece = export_submodule(network.graph, submodules[name], network.parts[name], ops)
            connection.send_bytes(piece.SerializeToString())
