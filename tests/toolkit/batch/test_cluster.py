"""Scenes as tasks of a Ray cluster: the results of one process, whatever becomes of workers.

Clusters run on this machine, and take seconds to begin, as do their workers, which import torch. So most tests share
one, to which they connect as to any that runs already; those of `--cluster local` have one each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.evaluation import judging_plugin
from tests.toolkit.batch.ray_cluster import ray_cluster
from tests.toolkit.toy_bundle import write_toy_bundle, write_toy_frames
from toolkit.batch.cluster import TRIALS
from toolkit.batch.orphans import orphans_ended
from toolkit.cli.main import run
from toolkit.runtime.run_record import RUN_RECORD, RunRecord

PLUGIN = '''
"""A session that kills its process in the second frame of a scene, once for each file in the folder `deadly`."""

import os
import signal
from pathlib import Path

from toolkit.engines.session_kind import SessionKind
from toolkit.engines.torch import TorchSession
from toolkit.hookspecs import hookimpl


class MortalSession(TorchSession):
    frames = 0

    def run(self, inputs):
        self.frames += 1
        deadly = sorted(Path(__file__).with_name("deadly").iterdir())
        if self.frames % 2 == 0 and deadly:
            deadly[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(inputs)


@hookimpl
def uniad_sessions():
    return (SessionKind("mortal", lambda bundle, plugins, options: MortalSession.of_bundle(bundle, plugins)),)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bundle`, `frames`: three scenes of two frames, the plugin, and `whole`: the results of one process."""
    folder = tmp_path_factory.mktemp("cluster")
    write_toy_bundle(folder / "bundle")
    write_toy_frames(folder / "frames")
    (folder / "mortal.py").write_text(PLUGIN)
    (folder / "deadly").mkdir()
    assert run(arguments(folder, "whole")) == 0
    return folder


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    """A cluster with room for one scene at a time, so that few workers must begin."""
    with ray_cluster(cpus=1) as cluster:
        yield cluster


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """For temporary files: names of sockets in it are limited."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


def arguments(folder: Path, output: str, *options: str, cluster: str = "") -> list[str]:
    """Of `run`, with one thread, since torch's last digits depend on their number."""
    paths = ("run", folder / "bundle", folder / "frames", "-o", folder / output, "--plugin", folder / "mortal.py")
    where = ("--cluster", cluster) if cluster else ()
    return [*map(str, paths), "--session", "mortal", "--threads", "1", *where, *options]


def contents(folder: Path) -> dict[str, bytes]:
    """All results by file name, but the record of times."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != RUN_RECORD}


def ray_processes(folder: Path) -> list[str]:
    """Those of a cluster with temporary files in a folder."""
    listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"{folder}/uniad-ray-" in line]


@pytest.mark.slow
def test_killed_worker_is_replaced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two workers, one of which is killed in the middle of a scene, write once what one process writes."""
    (folder / "deadly/once").touch()
    assert run(arguments(folder, "two", "--workers", "2", cluster="local")) == 0
    printed = capsys.readouterr()
    assert list((folder / "deadly").iterdir()) == []
    [warning] = printed.err.splitlines()
    assert warning.startswith("warning: scene scene")
    assert warning.endswith(": its worker died; another one begins it again")
    assert contents(folder / "two") == contents(folder / "whole")
    frames = [[record.frame for record in RunRecord.read(folder / name).frames] for name in ("two", "whole")]
    assert frames[0] == frames[1] == [f"frame{number}" for number in range(6)]
    assert [line.split()[2] for line in printed.out.splitlines() if ": 12 boxes" in line] == [
        f"{f}:" for f in frames[0]
    ]


@pytest.mark.slow
def test_evaluation_on_a_cluster(folder: Path, tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is that of one process, results and figures; `auto` finds the cluster of RAY_ADDRESS."""
    monkeypatch.setenv("RAY_ADDRESS", shared)
    options = ["--data", "hand:val", "--metrics", "ends,cars", "--no-pictures", "--plugin", judging_plugin.__file__]
    options += ["--session", "torch", "--threads", "1"]
    for name, where in {"one": (), "many": ("--cluster", "auto")}.items():
        assert run(["evaluate", str(folder / "bundle"), *options, "-o", str(tmp_path / name), *where]) == 0
    assert contents(tmp_path / "many/results") == contents(tmp_path / "one/results")
    assert (tmp_path / "many/metrics.json").read_bytes() == (tmp_path / "one/metrics.json").read_bytes()


@pytest.mark.slow
def test_scene_that_kills_every_worker(folder: Path, shared: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is given up; nothing is written."""
    for number in range(TRIALS):
        (folder / f"deadly/{number}").touch()
    assert run(arguments(folder, "none", "--shard", "0/3", cluster=shared)) == 1
    *warnings, error = capsys.readouterr().err.splitlines()
    assert len(warnings) == TRIALS - 1
    assert error.startswith(f"error: scene scene0: {TRIALS} workers died in it, perhaps for want of memory")
    assert not (folder / "none").exists()


@pytest.mark.slow
def test_bad_frame_is_told_as_without_a_cluster(
    folder: Path, tmp_path: Path, shared: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_toy_frames(tmp_path / "frames")
    damaged = min((tmp_path / "frames").rglob("*.jpg"))
    damaged.write_bytes(b"no picture")
    told = []
    for cluster in ("", shared):
        command = arguments(folder, "bad", cluster=cluster)
        command[2] = str(tmp_path / "frames")
        assert run(command) == 2
        told.append(capsys.readouterr().err)
        assert not (folder / "bad").exists()
    assert told[0] == told[1] != ""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["in its start", "in a scene"])
def test_stop_leaves_nothing(moment: str, folder: Path, short_folder: Path) -> None:
    """No process, no results, no temporary files."""
    options = arguments(folder, "stopped", "--workers", "2", cluster="local")
    command = [sys.executable, "-c", "from toolkit.cli.main import main; main()", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"TMPDIR": str(short_folder)}) as process:
        while not ray_processes(short_folder):
            time.sleep(0.1)
        assert process.stdout is not None
        if moment == "in a scene":
            while b"frame0" not in process.stdout.readline():
                pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert ray_processes(short_folder) == []
    assert [path for path in folder.iterdir() if "stopped" in path.name] == []
    assert list(short_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cluster", "127.0.0.1:1"), "the Ray cluster 127.0.0.1:1 cannot be used (ConnectionRefusedError"),
        (("--cluster", "ray://127.0.0.1:1"), "the Ray cluster ray://127.0.0.1:1 cannot be used (ConnectionRefused"),
        (("--cluster", "here"), "--cluster 'here' is not auto, local, HOST:PORT or ray://HOST:PORT"),
        (("--cluster", "host:99999"), "--cluster 'host:99999' is not auto, local, HOST:PORT or ray://HOST:PORT"),
        (("--cluster", "auto", "--workers", "2"), "--workers 2 is of no use with --cluster auto"),
    ],
)
def test_cluster_that_cannot_be_used(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Is told at once, before anything is read."""
    assert run(["run", str(tmp_path / "bundle"), str(tmp_path / "frames"), "-o", str(tmp_path / "out"), *options]) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert message in error


def test_missing_package(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    command = ["run", str(tmp_path / "b"), str(tmp_path / "f"), "-o", str(tmp_path / "out"), "--cluster", "auto"]
    assert run(command) == 2
    assert "pip install 'uniad-toolkit[ray]'" in capsys.readouterr().err


def test_orphans_are_ended(tmp_path: Path) -> None:
    """A process whose parent is gone, while those that were there before go on."""
    with subprocess.Popen(["sleep", "600"]) as other:
        with orphans_ended():
            subprocess.run(["sh", "-c", f"sleep 600 & echo $! > {tmp_path / 'pid'}"], check=True)
            orphan = int((tmp_path / "pid").read_text())
            os.kill(orphan, 0)
        with pytest.raises(ProcessLookupError):
            os.kill(orphan, 0)
        assert other.poll() is None
        other.kill()
