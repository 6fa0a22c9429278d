"""A Ray cluster that runs already, as `ray start --head` begins one, for all tests of a process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class RayCluster:
    """Its addresses: HOST:PORT, and that of the Ray client, ray://HOST:PORT."""

    address: str
    client: str


@contextmanager
def ray_cluster(cpus: int) -> Iterator[RayCluster]:
    """A cluster of one machine until the end of the block, on free ports; nothing of it is left then."""
    client_port = free_port()
    # Names of sockets in the folder may have 107 characters.
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder, orphans_ended():
        command = [*WITH_PARENT, sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        command.append("--disable-usage-stats")
        settings = {
            "node-ip-address": LOOPBACK,
            "port": 0,
            "ray-client-server-port": client_port,
            "num-cpus": cpus,
            "object-store-memory": OBJECT_STORE_BYTES,
            "include-dashboard": "false",
            "temp-dir": folder,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                address = announced(process, Path(folder))
                await_listener(client_port)
                yield RayCluster(address, f"ray://{LOOPBACK}:{client_port}")
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


def await_listener(port: int) -> None:
    """Wait until somebody listens: the server for Ray clients begins after the cluster has announced itself."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((LOOPBACK, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {LOOPBACK}:{port} after {PATIENCE:.0f} s"
            time.sleep(0.1)
        else:
            return


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
