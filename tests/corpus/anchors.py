"""Malformed motion anchors."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus.case import Malformed, Sample, nothing, write
from tests.corpus.checkpoints import CallsSystem, RunsCode

COMMAND = "convert {sample}/model.pth --config {sample}/model.toml --motion-anchors bad.pkl -o out"
SHAPE = (4, 6, 12, 2)


def malformed_anchors() -> Iterator[Malformed]:
    yield anchors("missing", nothing, "No such file")
    yield anchors("empty", write("bad.pkl", b""), "is empty")
    yield anchors("directory", lambda folder, sample: (folder / "bad.pkl").mkdir(), "is a directory")
    yield anchors("text", write("bad.pkl", "dear diary"), "cannot be used")
    yield anchors("too large", too_large, "larger than")
    yield from pickles()
    yield from arrays()
    without = COMMAND.replace("--motion-anchors bad.pkl ", "")
    yield Malformed("anchors: not given", without, ("'motion'", "needs", "give --motion-anchors FILE"), nothing)


def anchors(name: str, make: Callable[[Path, Sample], object], *words: str) -> Malformed:
    return Malformed(f"anchors: {name}", COMMAND, ("motion anchors bad.pkl", *words), make)


def too_large(folder: Path, sample: Sample) -> None:
    with (folder / "bad.pkl").open("wb") as file:
        file.truncate(2**33)


def pickles() -> Iterator[Malformed]:
    remedy = "give the official motion_anchor_infos_mode6.pkl"
    good = pickle.dumps({"anchors_all": [np.zeros(SHAPE[1:])] * 4})
    for size in range(20, len(good), len(good) // 5):
        yield anchors(f"pickle cut off at byte {size}", write("bad.pkl", good[:size]), remedy)
    for protocol in range(6):
        kind = (RunsCode, CallsSystem)[protocol % 2]
        data = pickle.dumps({"anchors_all": kind()}, protocol)
        yield anchors(f"code, protocol {protocol}", write("bad.pkl", data), "reading it would run that", remedy)
    contents: dict[str, Any] = {
        "list": [np.zeros(SHAPE)],
        "no anchors": {"anchors": np.zeros(SHAPE)},
        "numbers for arrays": {"anchors_all": [1, 2, 3, 4]},
        "array of objects": {"anchors_all": [np.array([None])] * 4},
        "other groups": {"anchors_all": [np.zeros(SHAPE[1:])] * 4, "grouped_classes": [["car"]] * 4},
    }
    for name, content in contents.items():
        yield anchors(name, write("bad.pkl", pickle.dumps(content)), remedy)
    yield anchors("memo of 2 billion entries", write("bad.pkl", b"\x80\x02]r\xff\xff\xff\x7f."), remedy)


def arrays() -> Iterator[Malformed]:
    contents = {
        "wrong shape": np.zeros((4, 6, 12, 3)),
        "too few groups": np.zeros((3, 6, 12, 2)),
        "one number": np.zeros(()),
        "NaN": np.full(SHAPE, np.nan),
        "complex": np.zeros(SHAPE, complex),
        "text array": np.full(SHAPE, "x"),
        "objects": np.full(SHAPE, None),
    }
    for name, content in contents.items():
        yield anchors(name, write("bad.pkl", npy(content)), "of shape [4, 6, 12, 2]")
    huge = npy(np.zeros(SHAPE)).replace(b"(4, 6, 12, 2)", b"(4, 6, 10**9)"[:13])
    yield anchors("expression for a shape", write("bad.pkl", huge), "of shape [4, 6, 12, 2]")
    huge = npy(np.zeros(SHAPE)).replace(b"(4, 6, 12, 2)", b"(9999999999,)")
    yield anchors("declared 80 GB", write("bad.pkl", huge), "of shape [4, 6, 12, 2]")


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
