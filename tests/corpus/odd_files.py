"""Every file that a command opens, replaced by what is no file: nobody waits for it, or reads it without end."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.corpus.case import Malformed, Sample, link_tree
from tests.corpus.generated import ANCHORS, EVALUATE, REPLAY, REPORT_RUN, RUN, RUN_BUNDLE, VISUALIZE
from toolkit.bundle import MANIFEST

Make = Callable[[Path, Sample], object]
BUNDLE_READERS = ("inspect bundle", RUN_BUNDLE, "verify bundle --length 1")
OPENINGS = (
    ("bad.pth", "inspect bad.pth"),
    ("bad.pth", "init-stage1 bad.pth -o out.pth"),
    ("bad.pth", "convert bad.pth -o out"),
    ("bad.pth", "inspect {sample}/model.pth --against bad.pth"),
    ("bad.pkl", ANCHORS),
    ("bad.toml", "config bad.toml"),
    ("bad.py", "config bad.py"),
    ("bad.py", "plugins --plugin bad.py"),
    ("bad.onnx", "inspect bad.onnx"),
    ("bad.onnx", "rewrite bad.onnx -o out.onnx"),
    ("bad.engine", "inspect bad.engine"),
    ("bad.npz", REPLAY),
    ("bad.npz", "verify {sample}/bundle --inputs bad.npz"),
    ("bad.json", "report {sample}/bundle --verify bad.json -o out.html"),
    ("bad.json", EVALUATE),
    ("bad.toml", "evaluate {sample}/results --data infos:x --against bad.toml -o out"),
    ("bad.infos", "run {sample}/bundle infos:bad.infos -o out"),
    ("info.txt", "run {sample}/bundle trt-input:. -o out"),
    ("frames/001.json", RUN),
    ("frames/images/001_CAM_FRONT.jpg", RUN),
    ("results/001.json", VISUALIZE),
    ("results/001.npz", VISUALIZE),
    ("results/run.jsonl", REPORT_RUN),
    ("results/001.png", REPORT_RUN),
    *itertools.product((f"bundle/{MANIFEST}", "bundle/model.onnx", "bundle/weights.safetensors"), BUNDLE_READERS),
)


def odd_files() -> Iterator[Malformed]:
    for (file, command), (what, replace) in itertools.product(OPENINGS, KINDS.items()):
        yield Malformed(f"{file} is {what}, for {command}", command, (), replaced(file, replace))


def replaced(file: str, replace: Callable[[Path], object]) -> Make:
    """Makes the folder that a file lies in, with something else in its place."""
    first, *rest = Path(file).parts

    def make(folder: Path, sample: Sample) -> None:
        if rest:
            link_tree(sample.folder / first, folder / first)
        (folder / file).unlink(missing_ok=True)
        replace(folder / file)

    return make


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def bound_socket(path: Path) -> None:
    """Bound by a short name, since that of a socket is limited."""
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)
    os.chdir(here)


KINDS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to a pipe": link_to_pipe,
    "a folder": Path.mkdir,
    "a socket": bound_socket,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "empty": Path.touch,
}
