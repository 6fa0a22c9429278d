"""Calls and their results between two processes; large buffers are not copied on the way."""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection
from typing import Any


def send(connection: Connection, value: object) -> None:
    """Send anything that pickles. Raises OSError if nobody is there to read it."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    connection.send((head, len(buffers)))
    for buffer in buffers:
        connection.send_bytes(buffer.raw())


def receive(connection: Connection) -> Any:
    """What the other side sent. Raises EOFError or OSError if it is gone."""
    head, count = connection.recv()
    return pickle.loads(head, buffers=[connection.recv_bytes() for _ in range(count)])
