"""What a malformed input is: how to make it, which command takes it, and what the command must say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.bundle import MANIFEST, content_digest

MARK = "code-was-run"
"""A file that hostile inputs try to create in the working folder."""


@dataclass(frozen=True)
class Sample:
    """A small converted model, and intact inputs for every command."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "model.pth"

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def frames(self) -> Path:
        return self.folder / "frames"

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs.npz"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def verification(self) -> Path:
        return self.folder / "verify.json"


@dataclass(frozen=True)
class Malformed:
    """`make` writes the input into the empty working folder; `command`, run there, must fail with these `words`.

    ``{sample}`` in the command stands for the folder of the sample.
    """

    name: str
    command: str
    words: tuple[str, ...]
    make: Callable[[Path, Sample], object]


def write(name: str, content: bytes | str) -> Callable[[Path, Sample], object]:
    """Makes one file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder, sample: (folder / name).write_bytes(data)


def nothing(folder: Path, sample: Sample) -> None:
    """Makes nothing."""


def link_tree(source: Path, target: Path) -> None:
    """A copy that shares the content of its files: to change one, replace it (`replace_file`)."""
    shutil.copytree(source, target, copy_function=os.link)


def replace_file(path: Path, data: bytes) -> None:
    """Other content for a file, which leaves its links alone."""
    path.unlink()
    path.write_bytes(data)


def change_json(path: Path, keys: tuple[str | int, ...], value: Any) -> None:
    """Replace the value at `keys` in a JSON file; the value ... removes it."""
    root = json.loads(path.read_text())
    inner = root
    for key in keys[:-1]:
        inner = inner[key]
    if value is ...:
        inner.pop(keys[-1])
    else:
        inner[keys[-1]] = value
    replace_file(path, json.dumps(root).encode())


def edit_manifest(*keys: str | int, value: Any) -> Callable[[Path, Sample], object]:
    """Makes a bundle whose manifest was edited by hand."""

    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.bundle, folder / "bundle")
        change_json(folder / "bundle" / MANIFEST, keys, value)

    return make


def resign_manifest(*keys: str | int, value: Any) -> Callable[[Path, Sample], object]:
    """Makes a bundle whose manifest was edited by a program that knows how its digest is made."""

    def make(folder: Path, sample: Sample) -> None:
        edit_manifest(*keys, value=value)(folder, sample)
        manifest = folder / "bundle" / MANIFEST
        change_json(manifest, ("digest",), content_digest(json.loads(manifest.read_text())))

    return make
