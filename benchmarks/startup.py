"""How long the command line takes to start, beside what importing torch and onnx takes.

python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

COMMAND = (sys.executable, "-c", "from toolkit.cli.main import main; main()")
STARTS = {
    "--help": (*COMMAND, "--help"),
    "--version": (*COMMAND, "--version"),
    "import torch, onnx": (sys.executable, "-c", "import torch, onnx"),
}
YARDSTICK = "import torch, onnx"


def main() -> None:
    """Start each process in turn, and print the medians and their ratio to the import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    for command in STARTS.values():  # bytecode and file cache
        seconds(command)
    rounds = [{name: seconds(command) for name, command in STARTS.items()} for _ in range(repeats)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in STARTS}
    for name, median in medians.items():
        print(f"{name:20} {median:6.2f} s  {median / medians[YARDSTICK]:5.2f} of {YARDSTICK!r}")


def seconds(command: Sequence[str]) -> float:
    """Wall time of a process. Raises CalledProcessError if it fails."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
