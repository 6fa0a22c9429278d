"""A Ray cluster that runs already, as `ray start --head` begins one, for all tests of a process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from toolkit.batch.cluster import OBJECT_STORE_BYTES
from toolkit.batch.orphans import orphans_ended

LOOPBACK = "127.0.0.2"
"""Ray takes 127.0.0.1 for the machine's address in its network; this one never leaves the machine."""
WITH_PARENT = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
"""Ends a command also when the tests are killed."""
PATIENCE = 60.0
"""Seconds in which a cluster must have begun, on a machine that has other work."""


@contextmanager
def ray_cluster(cpus: int) -> Iterator[str]:
    """The address of a cluster of one machine until the end of the block, on free ports; nothing is left of it then."""
    # Names of sockets in the folder may have 107 characters.
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, orphans_ended():
        command = [*WITH_PARENT, sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command.append("--disable-usage-stats")
        settings = {
            "node-ip-address": LOOPBACK,
            "port": 0,
            "ray-client-server-port": free_port(),
            "num-cpus": cpus,
            "object-store-memory": OBJECT_STORE_BYTES,
            "include-dashboard": "false",
            "temp-dir": folder,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield announced(process, Path(folder))
            finally:
                process.terminate()


def announced(process: subprocess.Popen[bytes], folder: Path) -> str:
    """The address that a cluster has written into its folder, once all of it has begun."""
    deadline = time.monotonic() + PATIENCE
    while not (file := folder / "ray_current_cluster").is_file():
        assert process.poll() is None, "ray start has failed"
        assert time.monotonic() < deadline, f"ray start takes more than {PATIENCE:.0f} s"
        time.sleep(0.1)
    return file.read_text().strip()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
