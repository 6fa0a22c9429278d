"""A folder in which a command has been run once, and is then run again under all sorts of faults."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.commands import WritingCommand
from tests.faults.forked import TEMPORARY, Fault, Outcome, Running
from toolkit.storage.claims import MARKER

Files = Mapping[str, str]
"""Digests by path."""
MOMENTS, CHANGES = 10, 6
FOREIGN = ".ses"
"""A file that ONNX Runtime keeps among the temporary ones."""


@dataclass(frozen=True)
class Moment:
    """When a command is stopped: at its n-th change of files, or after some seconds."""

    change: int = 0
    seconds: float = 0.0


class Bench:
    """One command, and what it wrote when nothing went wrong."""

    def __init__(self, command: WritingCommand, folder: Path, *, sample: Path, material: Path) -> None:
        self.command, self.folder = command, folder
        self.line, self.proof = (
            line.format(sample=sample, material=material) for line in (command.line, command.proof)
        )
        (folder / TEMPORARY).mkdir()
        for name in command.copies:
            shutil.copy(material / name, folder)
        self.before = self.visible()
        self.whole = self.run()
        assert (self.whole.status, self.whole.errors) == (0, ""), self.whole
        self.complete = self.visible()
        self.largest = max((folder / name).stat().st_size for name in self.complete.keys() - self.before.keys())
        assert self.complete.keys() > self.before.keys()
        assert self.hidden() == [], self.hidden()
        self.reset()

    def run(self, fault: Fault | None = None) -> Outcome:
        return self.start(fault).end()

    def start(self, fault: Fault | None = None) -> Running:
        return Running(self.line, self.folder, fault)

    def stop(self, moment: Moment, number: int) -> Outcome:
        """Run the command until it gets a signal."""
        running = self.start(Fault(number, moment.change))
        if not moment.change:
            running.send_after(moment.seconds, number)
        return running.end()

    def moments(self) -> Iterator[Moment]:
        """Ten of them: some of the changes from the first to the last, and else some of the time."""
        changes = sorted({1 + round(i * (self.whole.changes - 1) / (CHANGES - 1)) for i in range(CHANGES)})
        yield from map(Moment, changes)
        times = MOMENTS - len(changes)
        yield from (Moment(seconds=self.whole.seconds * (i + 1) / (times + 1)) for i in range(times))

    def check_whole(self) -> None:
        """What is there is what was there before, or all that the command makes; nothing between."""
        files = self.visible()
        if files != self.before:
            assert files.keys() == self.complete.keys()
            self.before = files
            self.reset()

    def reset(self) -> None:
        """Make it possible to run the command again; its former output is there, if it can be."""
        if not self.command.repeats:
            for path in self.folder.iterdir():
                if path.name != TEMPORARY and path.name not in self.command.copies:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.before = self.visible()

    def visible(self) -> Files:
        """What users see of the folder."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.folder.rglob("*")
            if path.is_file() and path.name != FOREIGN and not self.is_hidden(path)
        }

    def hidden(self) -> list[Path]:
        """What the command has not finished, and what it left of temporary files."""
        return [path for path in self.folder.rglob("*") if self.is_hidden(path)]

    def is_hidden(self, path: Path) -> bool:
        names = path.relative_to(self.folder).parts
        return any(name.startswith(".") and name not in (MARKER, FOREIGN) for name in names)
