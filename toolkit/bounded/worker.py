"""The process that carries out bounded calls; its arguments are a connection's descriptor and the bytes it may hold.

Calls and results are as in `toolkit.bounded.transport`; a result is a failure, empty if there is none, and the value.
"""

from __future__ import annotations

import os
import resource
import sys
from multiprocessing.connection import Connection
from threading import Thread

from toolkit.bounded.limits import is_out_of_memory
from toolkit.bounded.transport import receive, send
from toolkit.text import one_line

OUT_OF_MEMORY = 3
"""Exit status: after that, nothing more can be expected of a process."""


def main() -> None:
    """Carry out calls until there are no more."""
    descriptor, memory = map(int, sys.argv[1:])
    Thread(target=end_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        serve(Connection(descriptor))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def end_with_parent() -> None:
    """Wait for the end of the standard input, which comes when the other process is gone, and end at once."""
    sys.stdin.buffer.read()
    os._exit(1)


def serve(connection: Connection) -> None:
    """Answer each call. Raises MemoryError if one needs more than it may have."""
    while True:
        try:
            function, arguments, keywords = receive(connection)
        except EOFError:
            return
        try:
            failure, value = "", function(*arguments, **keywords)
        except Exception as error:  # whatever foreign data leads to
            if is_out_of_memory(error):
                raise MemoryError from error
            failure, value = one_line(error), None
        send(connection, (failure, value))


if __name__ == "__main__":
    main()
