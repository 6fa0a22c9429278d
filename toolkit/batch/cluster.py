"""Scenes as tasks of a Ray cluster: any of its machines runs them, and this process writes all results.

The machines read bundle and frames under the same paths, from a disk that they share; they need not write there.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from toolkit.batch.orphans import orphans_ended
from toolkit.batch.scenes import Scene
from toolkit.batch.workers import Job, opened
from toolkit.errors import CheckFailed, InputError
from toolkit.runtime.run_record import FrameRecord
from toolkit.stops import stops_held
from toolkit.storage.outputs import temporary_folder
from toolkit.text import one_line, quoted, shown
from toolkit.versions import PACKAGE, package_version

LOCAL = "local"
ADDRESS = re.compile(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):(\d{1,5})", re.ASCII)
PATIENCE = 5.0
"""Seconds until a machine must have taken a connection."""
TRIALS = 4
"""How often a scene is begun whose worker dies; a scene that needs too much memory kills every one."""
OBJECT_STORE_BYTES = 2**28
"""Shared memory of a cluster on this machine, for results of scenes on their way; more of them go to its disk."""


SceneResults = tuple[list[FrameRecord], dict[str, bytes]]
"""What became of each frame, and the files that were written, by name."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster runs scenes, and what it sets aside for each of them.

    `address` is Ray's: `auto`, HOST:PORT, ray://HOST:PORT, or `local` for a cluster that is started on this machine and
    runs `workers` scenes at once.
    """

    address: str
    workers: int
    cpus: int
    gpus: int


def require_cluster(address: str, workers: int) -> None:
    """Raise InputError unless Ray is installed and something answers at an address, as far as that is soon known."""
    _ray()
    if address == LOCAL:
        return
    if workers > 1:
        raise InputError(
            f"--workers {workers} is of no use with --cluster {shown(address)}, which runs as many scenes as it has "
            f"room for; leave it out, or use --cluster {LOCAL}"
        )
    if address == "auto":
        return
    match = ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65535:
        raise InputError(f"--cluster {quoted(address)} is not auto, {LOCAL}, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((match[1].strip("[]"), int(match[2])), PATIENCE).close()
    except (OSError, UnicodeError) as error:
        raise _unreachable(address, error) from error


@contextmanager
def cluster_records(
    job: Job, scenes: Sequence[Scene], cluster: Cluster, folder: Path, warn: Callable[[str], None]
) -> Iterator[Iterator[FrameRecord]]:
    """The records of all frames in the order of the scenes, whose results this process writes into `folder`.

    A scene whose worker dies is given to another one, and `warn` is told. At the end of the block, however it ends,
    nothing of ours is left in the cluster. Raises what a scene raises, InputError if the cluster cannot be used, and
    CheckFailed if the workers of a scene die again and again.
    """
    with _connection(cluster) as ray:
        yield _records(ray, job, scenes, cluster, folder, warn)


def _records(
    ray: Any, job: Job, scenes: Sequence[Scene], cluster: Cluster, folder: Path, warn: Callable[[str], None]
) -> Iterator[FrameRecord]:
    _require_room(ray, cluster)
    # A worker keeps its session for the next scene, on a GPU too. Ray's own retries tell nobody.
    task = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0, max_calls=0)(_run_scene)

    def begin(number: int) -> Any:
        return task.remote(job, scenes[number], Path.cwd(), package_version(PACKAGE))

    running = {begin(number): number for number in range(len(scenes))}
    begun = Counter(running.values())
    done: dict[int, list[FrameRecord]] = {}
    for turn in range(len(scenes)):
        while turn not in done:
            [ready], _ = ray.wait(list(running))
            number = running.pop(ready)
            try:
                done[number], files = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                raise _own_error(error) from error
            except ray.exceptions.RayError as error:  # of the worker or its machine, not of the scene
                name = scenes[number].frames[0].scene
                if begun[number] == TRIALS:
                    raise CheckFailed(
                        f"scene {name}: {TRIALS} workers died in it, perhaps for want of memory; give each one more "
                        f"with more --threads ({one_line(error)})"
                    ) from error
                warn(f"scene {name}: its worker died; another one begins it again")
                _require_room(ray, cluster)
                begun[number] += 1
                running[begin(number)] = number
                continue
            for file, content in files.items():
                (folder / file).write_bytes(content)
        yield from done.pop(turn)


def _run_scene(job: Job, scene: Scene, working_folder: Path, version: str) -> SceneResults:
    """In a worker: the records of a scene, and its results by file name."""
    here = package_version(PACKAGE)
    if here != version:
        raise InputError(
            f"{platform.node()} of the cluster has {here}, and this machine {version}; install the same on all of them"
        )
    try:
        os.chdir(working_folder)
    except OSError as error:
        raise InputError(
            f"{working_folder} cannot be used on {platform.node()} of the cluster ({error.strerror}); work in a folder "
            "on a disk that all its machines share, with bundle and frames"
        ) from error
    with temporary_folder("scene") as folder:
        records = list(replace(opened(job), folder=folder).run([scene]))
        return records, {file.name: file.read_bytes() for file in folder.iterdir()}


@contextmanager
def _connection(cluster: Cluster) -> Iterator[Any]:
    """The module `ray`, connected to the cluster until the end of the block, or started for it."""
    ray = _ray()
    with ExitStack() as stack:
        settings: Mapping[str, Any] = {}
        if cluster.address == LOCAL:
            # A short name, for those of sockets in the folder may have 107 characters.
            own = stack.enter_context(TemporaryDirectory(prefix="uniad-ray-", ignore_cleanup_errors=True))
            stack.enter_context(orphans_ended())
            settings = {
                "num_cpus": cluster.workers * cluster.cpus,
                "object_store_memory": OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": own,
                "runtime_env": {"env_vars": {"TMPDIR": own}},
            }
        stack.callback(_leave, ray)
        try:
            with _stops_kept(ray):
                ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR, **settings)
        except Exception as error:  # there is no end of their kinds
            raise _unreachable(cluster.address, error) from error
        yield ray


def _leave(ray: Any) -> None:
    """Disconnect from a cluster, which ends what runs for us there, and end one of our own."""
    with stops_held():
        ray.shutdown()


@contextmanager
def _stops_kept(ray: Any) -> Iterator[None]:
    """Within the block Ray takes SIGTERM for itself, and can lose what its handler raises, which ours raises again."""
    utils, ours = ray._private.utils, signal.getsignal(signal.SIGTERM)
    theirs = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = theirs
        signal.signal(signal.SIGTERM, ours)


def _require_room(ray: Any, cluster: Cluster) -> None:
    """Raise InputError if no machine of the cluster can run a scene, for which Ray would wait forever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(has.get("CPU", 0) >= cluster.cpus and has.get("GPU", 0) >= cluster.gpus for has in machines):
        wanted = f"{cluster.cpus} CPUs" + (f" and {cluster.gpus} GPUs" if cluster.gpus else "")
        raise InputError(
            f"no machine of the cluster has {wanted}, as each scene takes; run with fewer --threads, or another session"
        )


def _own_error(error: Any) -> BaseException:
    """What a task raised. InputError if its worker could not even begin it."""
    cause: BaseException = error.cause
    if isinstance(cause, ImportError) or "failed to import on the worker" in str(cause):
        return InputError(
            f"a machine of the cluster cannot import the toolkit ({one_line(cause)}); install "
            f"{package_version(PACKAGE)} there, in the environment in which Ray was started"
        )
    return cause


def _unreachable(address: str, error: Exception) -> InputError:
    remedy = (
        "set TMPDIR to a folder of short name with some space"
        if address == LOCAL
        else f"begin with `ray start --head`, or use --cluster {LOCAL}"
    )
    return InputError(f"the Ray cluster {shown(address)} cannot be used ({one_line(error)}); {remedy}")


def _ray() -> Any:
    """The module `ray`. Raises InputError if it cannot be imported."""
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"--cluster needs ray, which cannot be imported ({one_line(error)}); pip install 'uniad-toolkit[ray]'"
        ) from error
    return ray
