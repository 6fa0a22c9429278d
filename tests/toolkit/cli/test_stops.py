"""A stop lets everything be tidied up, cannot get lost, and shows as the exit status that shells know."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from toolkit.stops import STOPS, stops_held, stops_interrupt

def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)
    time.sleep(0)  # handlers run between two instructions

with stops_interrupt() as stop:
{body}
print("over", stop.number)
sys.exit(stop.status if stop.number else 0)
"""


def run(body: str) -> tuple[int, list[str], str]:
    """The exit status of a command with this body, and what it printed to each stream; it takes a moment."""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=indented)], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_finally_blocks_are_run(name: str) -> None:
    """The status is the one that shells give to a process that the signal ended."""
    number = signal.Signals[name]
    status, printed, errors = run(f"""
try:
    send({number:d})
finally:
    print("tidy")
""")
    assert (status, printed, errors) == (128 + number, ["tidy", f"over {number:d}"], "")


def test_no_stop() -> None:
    assert run("print('done')") == (0, ["done", "over 0"], "")


def test_other_errors_are_not_touched() -> None:
    status, _, errors = run("1 / 0")
    assert status == 1
    assert "ZeroDivisionError" in errors


def test_error_that_came_of_a_stop_is_not_shown() -> None:
    """Such as the ImportError of an import that was interrupted, whoever prints it."""
    assert run("""
try:
    send()
except KeyboardInterrupt:
    print("error: no module", file=sys.stderr)
    raise ImportError
""") == (143, ["over 15"], "")


def test_stop_waits_until_a_library_in_c_is_loaded() -> None:
    """One in C++ that imports modules of Python would abort the process if an interrupt came out of them."""
    status, printed, errors = run("""
import importlib._bootstrap_external as bootstrap
from importlib.machinery import ExtensionFileLoader
class Imp:
    def exec_dynamic(self, module):
        send()
        print("loaded")
bootstrap._imp = Imp()
try:
    ExtensionFileLoader("library", "library.so").exec_module(None)
    time.sleep(10)
except KeyboardInterrupt:
    print("stopped")
""")
    assert (status, printed, errors) == (143, ["loaded", "stopped", "over 15"], "")


@pytest.mark.parametrize(
    "loses",
    ["try:\n    send()\nexcept BaseException:\n    pass", "class Loser:\n    __del__ = lambda self: send()\nLoser()"],
    ids=["caught by somebody else", "in a destructor"],
)
def test_lost_stop_is_raised_again(loses: str) -> None:
    started = time.monotonic()
    assert run(f"{loses}\nprint('lost', flush=True)\ntime.sleep(20)") == (143, ["lost", "over 15"], "")
    assert time.monotonic() - started < 10


def test_tidying_up_is_not_interrupted() -> None:
    """Neither by more stops nor because it takes long."""
    assert run("""
try:
    send()
finally:
    send()
    send(signal.SIGINT)
    time.sleep(1.2)
    print("tidy")
""") == (143, ["tidy", "over 15"], "")


def test_stop_can_be_held() -> None:
    """For steps that belong together."""
    assert run("""
with stops_held():
    send()
    print("one")
    print("two")
print("three")
""") == (143, ["one", "two", "over 15"], "")


def test_nothing_is_held_elsewhere_than_in_the_main_thread() -> None:
    assert run("""
import threading
def work():
    with stops_held():
        print("done")
thread = threading.Thread(target=work)
thread.start()
thread.join()
""") == (0, ["done", "over 0"], "")


def test_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    script = SCRIPT.format(body="    send(signal.SIGHUP)\n    print('on')")
    ignoring = f"trap '' HUP; exec {sys.executable} -c \"$0\""
    done = subprocess.run(["sh", "-c", ignoring, script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "on\nover 0\n")


def test_stop_after_the_end() -> None:
    """The process is ended at once: there is nothing left to tidy up, and an interrupt would only be printed."""
    script = SCRIPT.format(body="    pass").replace('print("over"', 'send(); print("over"')
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")


CHILD = """
import os, sys, time
from toolkit.stops import end_with_parent
end_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_child_ends_with_its_parent() -> None:
    """Even if that is killed."""
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}])"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == ""  # the pipe is closed when its last writer, the child, is gone
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at the signals that a process catches")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("milliseconds", [0, 10, 30, 100, 300, 1000])
def test_stop_while_the_command_line_starts(name: str, milliseconds: int, tmp_path: Path) -> None:
    """From the toolkit's first lines on, long before its imports are done; before that it is Python's own affair."""
    command = "from toolkit.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "demo", "-o", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not catches(process.pid, signal.SIGHUP):
        assert time.monotonic() < deadline
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.Signals[name])
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[name]
    assert err == b""
    assert list(tmp_path.iterdir()) == []


def catches(process: int, number: int) -> bool:
    status = Path(f"/proc/{process}/status").read_text()
    [mask] = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(mask >> number - 1 & 1)
