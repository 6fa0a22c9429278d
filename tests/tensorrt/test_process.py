"""However the process that builds an engine ends, there is one line about it, and its log is kept."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.tensorrt.sidecars import sidecar
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.process import run_build
from toolkit.engines.tensorrt.progress import BuildMonitor, Phase
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.settings import BuildSettings
from toolkit.engines.tensorrt.sidecar import Sidecar
from toolkit.errors import CheckFailed, InputError
from toolkit.storage.remains import is_running

pytestmark = pytest.mark.thorough


def request(folder: Path) -> BuildRequest:
    return BuildRequest(folder / "m.onnx", folder / "m.engine", BuildSettings(Target.TENSORRT_RTX))


def run(folder: Path, script: str) -> tuple[Sidecar, list[list[Phase]]]:
    """Run a script in place of the process that builds; also what it reported."""
    reports: list[list[Phase]] = []
    return run_build(request(folder), reports.append, (sys.executable, "-c", script)), reports


def test_engine_with_progress(tmp_path: Path) -> None:
    """The process gets the request, reports phases, and leaves a sidecar; what it says is the log."""
    sidecar().write(tmp_path / "made")
    script = """
import json, shutil, sys
from pathlib import Path
made, folder = Path(json.load(sys.stdin)["engine"]).parent / "made.json", Path(sys.argv[1])
print("[WARNING] slow", file=sys.stderr)
print(json.dumps({"phases": [{"name": "Building", "done": 1, "steps": 6}]}), flush=True)
print(json.dumps({"phases": []}))
(folder / "engine").write_text("engine")
shutil.copy(made, folder / "engine.json")
"""
    assert run(tmp_path, script) == (sidecar(), [[Phase("Building", 1, 6)], []])
    assert (tmp_path / "m.engine").read_text() == "engine"
    assert (tmp_path / "m.engine.log").read_text() == "[WARNING] slow\n"


def test_request_that_cannot_be_carried_out(tmp_path: Path) -> None:
    """Where nothing was said, there is no log."""
    with pytest.raises(InputError, match=r"^the model is no good$"):
        run(tmp_path, """print('{"error": "the model is no good"}'); raise SystemExit(2)""")
    assert not list(tmp_path.iterdir())


def test_build_that_fails(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"^no tactic; its log is .*m\.engine\.log$"):
        run(tmp_path, """import sys; sys.stderr.write("tried"); print('{"error": "no tactic"}'); raise SystemExit(1)""")


def test_process_that_ends_without_a_word(tmp_path: Path) -> None:
    """TensorRT's last error is told, not what came after it."""
    script = "import sys; sys.stderr.write('[ERROR] out of range\\n[INFO] cleaning up\\n'); raise SystemExit(134)"
    with pytest.raises(CheckFailed, match=r"^out of range; its log is .*m\.engine\.log$"):
        run(tmp_path, script)


@pytest.mark.parametrize(
    ("ended_by", "name"), [("SIGSEGV", "SIGSEGV"), ("SIGKILL", "SIGKILL, perhaps for want of memory")]
)
def test_process_that_is_ended_by_a_signal(ended_by: str, name: str, tmp_path: Path) -> None:
    script = f"""
import os, resource, signal, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("[INTERNAL_ERROR] heap is damaged", file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.{ended_by})
"""
    with pytest.raises(CheckFailed, match=rf"was ended by {name}; its last word was: heap is damaged; its log is "):
        run(tmp_path, script)


def test_process_that_is_ended_in_the_middle_of_a_report(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="was ended by SIGTERM; its last word was: nothing"):
        run(tmp_path, """import os; print('{"phases": [', end="", flush=True); os.kill(os.getpid(), 15)""")


def test_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "m.engine.log").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*m\.engine\.log: Is a directory; name a file in it"):
        run(tmp_path, "")


BUILDER = """
import sys
from pathlib import Path
from toolkit.engines.tensorrt.library import Target
from toolkit.engines.tensorrt.process import run_build
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.settings import BuildSettings
from toolkit.stops import stops_interrupt
with stops_interrupt() as stop:
    request = BuildRequest(Path("m.onnx"), Path("m.engine").absolute(), BuildSettings(Target.TENSORRT_RTX))
    run_build(request, print, (sys.executable, "-c", sys.argv[1]))
sys.exit(stop.status)
"""
WORKER = """
import os, sys, tempfile, time
from pathlib import Path
from toolkit.storage.remains import partial_path
from toolkit.stops import end_with_parent
end_with_parent(int(sys.argv[2]))
print("building", file=sys.stderr, flush=True)
tempfile.mkdtemp()
partial_path(Path("m.engine")).touch()
Path("worker").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A process that builds in the working folder, where `worker` tells the number of the process that it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return subprocess.Popen([sys.executable, "-c", BUILDER, WORKER], stdout=subprocess.PIPE, text=True)


def stop(build: subprocess.Popen[str], number: int) -> None:
    """Send a signal when the work has begun, and wait until both processes are gone."""
    deadline = time.monotonic() + 60
    while not (worker := Path("worker")).exists() or not worker.read_text():
        assert time.monotonic() < deadline
        assert build.poll() is None
    build.send_signal(number)
    build.wait()
    while is_running(int(worker.read_text())):
        assert time.monotonic() < deadline
    worker.unlink()


def test_stopped_build_leaves_nothing(build: subprocess.Popen[str], tmp_path: Path) -> None:
    """Neither the process that builds, nor what that had begun, nor a log."""
    stop(build, signal.SIGTERM)
    assert build.returncode == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_killed_build_takes_its_process_with_it(build: subprocess.Popen[str], tmp_path: Path) -> None:
    """What is left is hidden, and removed by the next build."""
    stop(build, signal.SIGKILL)
    assert len(remains := list(tmp_path.iterdir())) == 3
    assert all(path.name.startswith(".") for path in remains)
    with pytest.raises(InputError, match="no good"):
        run(tmp_path, """print('{"error": "no good"}'); raise SystemExit(2)""")
    assert not list(tmp_path.iterdir())


def test_phases_are_nested() -> None:
    """Each change of phases is reported at once; of the steps, those that are a while apart."""
    reports: list[list[Phase]] = []
    monitor = BuildMonitor(reports.append)
    monitor.phase_start("Building", None, 2)
    monitor.phase_start("Optimizing", "Building", 1000)
    for step in range(1000):
        assert monitor.step_complete("Optimizing", step)
    monitor.phase_finish("Optimizing")
    assert monitor.step_complete("Building", 0)
    monitor.phase_finish("Building")
    assert len(reports) < 100
    assert reports[:2] == [[Phase("Building", 0, 2)], [Phase("Building", 0, 2), Phase("Optimizing", 0, 1000)]]
    assert reports[-1] == []
