"""Malformed tensors for `replay` and `verify`."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus.case import Malformed, Sample, nothing, write
from tests.corpus.checkpoints import RunsCode

COMMANDS = itertools.cycle(["replay {sample}/bundle bad.npz -o out.npz", "verify {sample}/bundle --inputs bad.npz"])
Change = Callable[[dict[str, Any]], object]


def malformed_replays() -> Iterator[Malformed]:
    yield from files()
    yield from keys()
    yield from tensors()
    yield from states()
    yield from bombs()


def replays(name: str, make: Callable[[Path, Sample], object], *words: str) -> Malformed:
    return Malformed(f"replay: {name}", next(COMMANDS), ("bad.npz", *words), make)


def changed(name: str, change: Change, *words: str) -> Malformed:
    """A case in which good tensors are changed."""

    def make(folder: Path, sample: Sample) -> None:
        with np.load(sample.inputs) as archive:
            arrays: dict[str, Any] = dict(archive)
        change(arrays)
        np.savez(folder / "bad.npz", **arrays)

    return replays(name, make, *words)


def put(key: str, value: Any) -> Change:
    return lambda arrays: arrays.update({key: value})


def drop(key: str) -> Change:
    return lambda arrays: arrays.pop(key)


def cut_off(size: int) -> Callable[[Path, Sample], object]:
    return lambda folder, sample: (folder / "bad.npz").write_bytes(sample.inputs.read_bytes()[:size])


def files() -> Iterator[Malformed]:
    npy = io.BytesIO()
    np.save(npy, np.zeros(3))
    pickled = io.BytesIO()
    np.save(pickled, np.array([RunsCode()]))
    yield replays("missing", nothing, "No such file", "check the path")
    yield replays("empty", write("bad.npz", b""), "is empty")
    yield replays("text", write("bad.npz", "dear diary"), "is not a readable npz", "write it with numpy.savez")
    yield replays("one array", write("bad.npz", npy.getvalue()), "is not a readable npz", "write it with numpy.savez")
    yield replays(
        "pickled array", write("bad.npz", pickled.getvalue()), "is not a readable npz", "write it with numpy.savez"
    )
    yield replays(
        "directory", lambda folder, sample: (folder / "bad.npz").mkdir(), "is a directory; give the file itself"
    )
    for size in (10, 1000, 100_000, 300_000):
        yield replays(f"cut off at byte {size}", cut_off(size), "is not a readable npz", "write it with numpy.savez")


def keys() -> Iterator[Malformed]:
    yield changed("no frames", lambda arrays: arrays.clear(), "holds no frames", "t contiguous from 0")
    yield changed("a gap", put("f3.in.img", np.zeros(1)), "frame 2 is missing", "contiguous")
    yield changed("frame of 5,000 digits", put(f"f{'1' * 5000}.in.img", np.zeros(1)))
    yield changed("unknown name", put("f0.in.image", np.zeros(1)), "f0.in.image", "known are img")
    yield changed("state later on", put("f1.in.prev_bev", np.zeros(1)), "f1.in.prev_bev", "give them in frame 0 only")
    for name in ("img", "img_metas_lidar2img", "img_metas_can_bus", "command", "use_prev_bev", "timestamp"):
        yield changed(f"{name} missing", drop(f"f1.in.{name}"), f"f1.in.{name} is missing; it holds")


def tensors() -> Iterator[Malformed]:
    timestamps: dict[str, tuple[Any, str]] = {
        "objects": (np.array([None]), "is not a readable npz"),
        "code": (np.array([RunsCode()]), "is not a readable npz"),
        "text": (np.array(["straight"]), "it must hold"),
        "complex": (np.zeros(1, complex), "it must hold"),
        "booleans": (np.zeros(1, bool), "it must hold"),
        "two numbers": (np.zeros(2), "it must hold"),
        "no numbers": (np.zeros(0), "it must hold"),
        "NaN": (np.array([np.nan]), "holds non-finite values; repair the input"),
        "infinity": (np.array([np.inf]), "holds non-finite values; repair the input"),
        "more than a float32 holds": (np.array([1e300]), "holds non-finite values; repair the input"),
    }
    for name, (value, words) in timestamps.items():
        yield changed(f"timestamp of {name}", put("f0.in.timestamp", value), words)
    for number in (-1, 3, 2**40, 0.5):
        yield changed(f"command {number}", put("f1.in.command", np.array([number])), "f1.in.command")
    for number in (-1, 2):
        yield changed(f"use_prev_bev {number}", put("f1.in.use_prev_bev", np.array([number])), "f1.in.use_prev_bev")
    yield changed("image of another size", put("f1.in.img", np.zeros((6, 3, 9, 9))), "f1.in.img", "it must hold")


def states() -> Iterator[Malformed]:
    yield changed("half a state", put("f0.in.prev_bev", np.zeros(1)), "f0.in.prev_", "all recurrent")
    rows = np.zeros((21, 128), np.float32)
    yield changed("too many tracks", state(prev_track_intances0=rows), "f0.in.prev_track_intances0", "capacity is 20")
    scores = np.zeros(5, np.float32)
    yield changed("scores of other rows", state(prev_track_intances8=scores), "f0.in.prev_track_intances8")


def state(**changes: np.ndarray) -> Change:
    """Adds an initial state of no tracks, with some of its tensors replaced."""
    from tests.corpus.sample import CONFIG
    from toolkit.plugin.manager import PluginManager
    from toolkit.reference_interface.tensors import RECURRENT, TRACK_ROWS
    from toolkit.wiring import join

    def change(arrays: dict[str, Any]) -> None:
        specs = {s.name: s for s in join(PluginManager.load().submodules(), CONFIG).state_inputs}
        for name, ours in RECURRENT.items():
            zeros = specs[ours].zeros(CONFIG.dimensions())
            arrays[f"f0.in.{name}"] = zeros[:3] if ours.removeprefix("prev_") in TRACK_ROWS.values() else zeros
        arrays.update({f"f0.in.{name}": array for name, array in changes.items()})

    return change


def bombs() -> Iterator[Malformed]:
    declared = npy_header("(99999999999,)")
    yield replays("array of 400 GB", with_member("f0.in.img.npy", declared))
    yield replays("30 frames of 100 MB", many_frames, "f0.in.img is uint8[104857600]; it must hold")
    yield replays("compressed gigabyte", with_member("f0.in.img.npy", npy_header("(268435456,)"), 2**30))
    yield replays("header of 64 MB", with_member("f0.in.img.npy", b"\x93NUMPY\x02\x00" + b"\xff" * 4))


def many_frames(folder: Path, sample: Sample) -> None:
    """Some MB that stand for 3 GB."""
    header = npy_header("(104857600,)").replace(b"<f4", b"|u1")
    with zipfile.ZipFile(folder / "bad.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(30):
            archive.writestr(f"f{number}.in.img.npy", header + bytes(100 * 2**20))


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def with_member(name: str, start: bytes, zeros: int = 100) -> Callable[[Path, Sample], object]:
    """Makes an npz with one compressed member: `start`, then zeros."""

    def make(folder: Path, sample: Sample) -> None:
        with zipfile.ZipFile(folder / "bad.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as file:
            file.write(start)
            for _ in range(0, zeros, 2**20):
                file.write(bytes(min(zeros, 2**20)))

    return make
