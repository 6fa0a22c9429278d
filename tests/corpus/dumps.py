"""Malformed dumps of training environments for `verify --against`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus.case import Malformed, Sample, nothing, write
from tests.corpus.checkpoints import RunsCode
from tests.corpus.replays import Change, cut_off, put

COMMAND = "verify {sample}/bundle --session torch --against bad.npz"


def malformed_dumps() -> Iterator[Malformed]:
    yield Malformed("dump: missing", COMMAND, ("bad.npz", "No such file"), nothing)
    yield Malformed("dump: text", COMMAND, ("bad.npz", "is not a readable npz"), write("bad.npz", "dear diary"))
    yield Malformed("dump: cut off", COMMAND, ("bad.npz", "is not a readable npz"), cut_off(100_000))
    yield changed("no outputs", lambda arrays: arrays.pop("f0.out.scores"), "holds inputs of 2 frames and outputs of 0")
    yield changed("outputs of other frames", put("f2.out.scores", np.zeros(1)), "frame 1 is missing")
    yield changed("too little", complete(), "frame 0 lacks bboxes_dict_bboxes, labels", "dump again")
    yield from texts()
    yield from outputs()


def changed(name: str, change: Change, *words: str) -> Malformed:
    """A case in which a dump with scores alone, of one frame of two, is changed."""

    def make(folder: Path, sample: Sample) -> None:
        with np.load(sample.inputs) as archive:
            arrays: dict[str, Any] = dict(archive)
        arrays["f0.out.scores"] = np.zeros(3, np.float32)
        change(arrays)
        np.savez(folder / "bad.npz", **arrays)

    return Malformed(f"dump: {name}", COMMAND, ("bad.npz", *words), make)


def complete(*changes: Change) -> Change:
    """With outputs of the second frame too, and then changed."""

    def change(arrays: dict[str, Any]) -> None:
        arrays["f1.out.scores"] = np.zeros(3, np.float32)
        for one in changes:
            one(arrays)

    return change


def texts() -> Iterator[Malformed]:
    cases: dict[str, tuple[Any, str]] = {
        "bytes": (np.array(b"{}"), "it must hold one text"),
        "numbers": (np.zeros(3), "it must hold one text"),
        "two texts": (np.array(["{}", "{}"]), "it must hold one text"),
        "code": (np.array([RunsCode()]), "is not a readable npz"),
        "no JSON": (np.array("dear diary"), "is not valid JSON"),
        "half a character": (np.array('{"tree": "\ud800"}'), "is not valid JSON"),
        "nested deeply": (np.array("[" * 100_000), "is not valid JSON"),
        "list": (np.array("[1]"), "no JSON object"),
        "text for a number": (np.array('{"score_thresh": "high"}'), "$.score_thresh"),
        "unknown yaw": (np.array('{"yaw_convention": "up"}'), "$.yaw_convention"),
        "cameras in a text": (np.array('{"cameras": "CAM_FRONT"}'), "$.cameras"),
        "too large": (np.array(" " * 2**22 + "{}"), "is larger than"),
        "newer": (np.array('{"format": 2}'), "meta is of format 2, newer than 1; use a newer toolkit"),
        "other frames": (np.array('{"frames": 9}'), "meta says 9 frames, the file holds 2"),
        "infinite": (np.array('{"score_thresh": 1e999}'), "meta is damaged"),
    }
    for name, (value, words) in cases.items():
        yield changed(f"meta: {name}", complete(put("meta", value)), words)
    yield changed("sample of numbers", complete(put("f1.aux.sample_idx", np.zeros(2))), "it must hold one text")


def outputs() -> Iterator[Malformed]:
    cases: dict[str, tuple[str, Any, str]] = {
        "text": ("scores", np.array(["high"] * 3), "it must hold"),
        "code": ("scores", np.array([RunsCode()]), "is not a readable npz"),
        "NaN": ("scores", np.full(3, np.nan), "holds non-finite values, which the model gave: dump again in FP32"),
        "other rows": ("labels", np.zeros(4, np.int32), "it must hold"),
        "one number": ("bev_embed", np.zeros(()), "it must hold"),
        "too many rows": ("scores", np.zeros(10_000, np.float32), "convert with a larger --track-capacity"),
        "no rows of forecasts": ("traj", np.zeros((0, 6, 12, 5), np.float32), "it must hold"),
        "complex": ("outs_planning", np.zeros((1, 6, 2), complex), "it must hold"),
    }
    for name, (key, value, words) in cases.items():
        yield changed(f"outputs: {name}", complete(put(f"f0.out.{key}", value)), words)
