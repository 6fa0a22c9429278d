"""Malformed frame folders: every field, every image."""

from __future__ import annotations

import itertools
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.corpus.case import Malformed, Sample, change_json, link_tree, nothing, replace_file
from toolkit.config.model import CAMERAS
from toolkit.text import quoted

RUN = "run {sample}/bundle frames -o out"
COMMANDS = itertools.cycle([RUN, "verify {sample}/bundle --frames frames"])
CAMERA = ("cameras", "CAM_BACK")
REQUIRED: tuple[tuple[str, ...], ...] = (
    ("scene",), ("timestamp",), ("command",), ("cameras",), ("lidar2ego",), ("ego2global",),
    ("lidar2ego", "rotation"), ("ego2global", "translation"),
    CAMERA, (*CAMERA, "image"), (*CAMERA, "intrinsics"), (*CAMERA, "sensor2lidar"),
    (*CAMERA, "sensor2lidar", "rotation"), (*CAMERA, "sensor2lidar", "translation"),
)  # fmt: skip
NUMBERS: tuple[tuple[str, ...], ...] = (
    ("lidar2ego", "translation"), ("ego2global", "translation"), ("ego2global", "rotation"),
    ("can_bus", "velocity"), ("can_bus", "acceleration"), (*CAMERA, "sensor2lidar", "translation"),
)  # fmt: skip
PICTURE = "images/001_CAM_FRONT.jpg"
Damage = Callable[[Path], object]


def malformed_frames() -> Iterator[Malformed]:
    yield from folders()
    yield from addresses()
    yield from missing_fields()
    yield from wrong_types()
    yield from wrong_numbers()
    yield from wrong_values()
    yield from wrong_texts()
    yield from images()
    yield from info_files()


def frames(name: str, damage: Damage, *words: str, command: str = "") -> Malformed:
    """A case of a frame folder of which something is changed; `damage` gets the folder."""

    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.frames, folder / "frames")
        damage(folder / "frames")

    return Malformed(f"frames: {name}", command or next(COMMANDS), words, make)


def edited(name: str, keys: tuple[str | int, ...], value: Any, *words: str) -> Malformed:
    """A case in which one field of the second frame is changed."""
    where = ".".join(str(key) for key in keys if isinstance(key, str))
    return frames(name, lambda f: change_json(f / "001.json", keys, value), "001.json", where, *words)


def folders() -> Iterator[Malformed]:
    yield Malformed("frames: missing", RUN, ("frames: is not a folder", "give the folder"), nothing)
    yield Malformed("frames: a file", RUN, ("is not a folder",), lambda f, s: (f / "frames").write_text("x"))
    yield Malformed("frames: empty", RUN, ("holds no frame", "frame-format.md"), lambda f, s: (f / "frames").mkdir())
    yield frames("JSON is a folder", lambda f: (f / "002.json").mkdir(), "002.json")
    long = "verify {sample}/bundle --frames frames --length 3"
    yield frames("fewer than --length", lambda f: None, "frames holds 2 frames", "lower it", command=long)


def addresses() -> Iterator[Malformed]:
    places = {
        "nuscenes:nowhere": ("nowhere: is not a folder", "give the nuScenes folder"),
        "nuscenes:frames": ("frames: a version must be chosen", "unpack the metadata"),
        "nuscenes:frames?speed=9": ("'speed' is unknown", "known here are version"),
        "nuscenes:?split=val": ("has no path", "give it before the question mark"),
        "infos:nowhere.pkl": ("nowhere.pkl cannot be read", "check the path"),
        "infos:frames/000.json": ("000.json cannot be read", "give a nuscenes_infos_temporal"),
        "trt-input:frames": ("info.txt: cannot be read", "give the folder uniad_trt_input"),
    }
    for place, words in places.items():
        yield frames(f"address {place}", lambda f: None, *words, command=f"run {{sample}}/bundle {place} -o out")
    yield frames("dataroot", lambda f: None, "a version must be chosen", command="prepare --dataroot frames -o out")


def missing_fields() -> Iterator[Malformed]:
    for keys in REQUIRED:
        yield edited(f"{'.'.join(keys)} missing", keys, ..., "is missing; give all of")


def wrong_types() -> Iterator[Malformed]:
    """Three values of wrong types for every field."""
    values: Iterator[Any] = itertools.cycle([None, [], True, {"a": 1}, -7.5])
    for keys in REQUIRED:
        for value in itertools.islice(values, 3):
            yield edited(f"{'.'.join(keys)} is {value!r}", keys, value)


def wrong_numbers() -> Iterator[Malformed]:
    for keys in NUMBERS:
        for number in (math.nan, math.inf, 1e300, "1", None, 10**400):
            yield edited(
                f"{'.'.join(keys)} holds {number!r:.9}", keys, [0, number, 0, 0][: 3 + (keys[-1] == "rotation")]
            )
        yield edited(f"{'.'.join(keys)} is short", keys, [1.0])
    for number in (math.nan, -math.inf, 1e300, 10**400, 1532402927647951, -1.0, 0.0):
        yield edited(f"timestamp is {number!r:.9}", ("timestamp",), number)
    for number in (math.nan, -50.0, 0.0, 1e300):
        matrix = [[number, 0, 32], [0, 50.0, 32], [0, 0, 1]]
        yield edited(f"focal length is {number!r}", (*CAMERA, "intrinsics"), matrix)


def wrong_values() -> Iterator[Malformed]:
    rotation = ("ego2global", "rotation")
    yield edited("quaternion of norm 2", rotation, [2, 0, 0, 0], "normalise it to 1")
    yield edited("sheared rotation", rotation, [[1, 1, 0], [0, 1, 0], [0, 0, 1]], "not orthonormal")
    yield edited("reflection", rotation, [[-1, 0, 0], [0, 1, 0], [0, 0, 1]], "right-handed")
    for command in ("up", 3, -1, 1.5):
        yield edited(f"command {command!r}", ("command",), command, '"right", "left", "straight"')
    yield edited("unknown field", ("weather",), "fine", "is unknown; known here are")
    yield frames("half a character", lambda f: change_json(f / "001.json", ("\ud800",), 1), "\\ud800: is unknown")
    yield edited("half a character in a scene", ("scene",), "\ud800", "expected text, found half a character in")
    yield edited("unknown reading", ("can_bus", "speed"), [0, 0, 0], "is unknown; known here are")
    for image in ("nowhere.jpg", "images", "x" * 5000, "a\0b", "\ud800.jpg"):
        yield edited(f"image {image!r:.12}", (*CAMERA, "image"), image, "give a path relative to the JSON's folder")


def info_files() -> Iterator[Malformed]:
    """Info files of nuScenes with values that no data set has."""
    changes: dict[str, tuple[Any, str]] = {
        "timestamp": (10**5000, "timestamp an integer of 5000 digits is no time in µs"),
        "token": (10**5000, "expected a non-empty string"),
        "lidar2ego_rotation": (np.array(1.0), "expected 3 x 3 numbers"),
        "ego2global_translation": ([0, 0, 10**5000], "not finite"),
    }
    for key, (value, words) in changes.items():
        make = with_info(key, value)
        yield Malformed(f"infos: {key} is {quoted(value)}", "run {sample}/bundle infos:bad.pkl -o out", (words,), make)


def with_info(key: str, value: Any) -> Callable[[Path, Sample], object]:
    def make(folder: Path, sample: Sample) -> None:
        content = {"infos": [nuscenes_info(sample, 0) | {key: value}]}
        (folder / "bad.pkl").write_bytes(pickle.dumps(content))

    return make


def nuscenes_info(sample: Sample, number: int) -> dict[str, Any]:
    """A frame as an info file has it, half a second after the one before."""
    camera = {
        "data_path": str(sample.frames / "images/000_CAM_BACK.jpg"),
        "cam_intrinsic": np.diag([50.0, 50, 1]),
        "sensor2lidar_rotation": np.eye(3),
        "sensor2lidar_translation": np.zeros(3),
    }
    return {
        "token": f"t{number}",
        "scene_token": "s",
        "timestamp": 1532402927647951 + 500_000 * number,
        "can_bus": np.zeros(18),
        "cams": {name: dict(camera) for name in CAMERAS},
        "lidar2ego_rotation": [1.0, 0, 0, 0],
        "lidar2ego_translation": [0.0, 0, 0],
        "ego2global_rotation": [1.0, 0, 0, 0],
        "ego2global_translation": [3.0 * number, 0, 0],
    }


def wrong_texts() -> Iterator[Malformed]:
    texts = {
        "empty": b"",
        "cut off": b'{"scene": "monday", ',
        "not UTF-8": b"\xff\xfe{}",
        "nested deeply": b'{"a":' * 100_000,
        "number of 5,000 digits": b'{"timestamp": ' + b"1" * 5000 + b"}",
        "picture": b"\xff\xd8\xff\xe0",
    }
    for name, data in texts.items():
        yield frames(f"JSON {name}", replaced("001.json", data), "001.json", "repair the file")
    yield frames("JSON list", replaced("001.json", b"[]"), "001.json", "expected an object with named fields")
    yield frames("JSON of 8 GiB", lambda f: sparse(f / "001.json", b"{"), "001.json", "larger than", "repair the file")


def sparse(path: Path, start: bytes) -> None:
    replace_file(path, start)
    with path.open("ab") as file:
        file.truncate(2**33)


def replaced(name: str, data: bytes) -> Damage:
    return lambda folder: replace_file(folder / name, data)


def images() -> Iterator[Malformed]:
    good, noise = jpeg(64, 64), encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    size = ("the model takes 64x64", "Resize the images")
    contents: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "zero bytes": (b"", ("is not a JPEG file",)),
        "PNG": (encoded(np.zeros((64, 64, 3), np.uint8), ".png"), ("convert the image to JPEG",)),
        "text": (b"dear diary", ("convert the image to JPEG",)),
        "only the start": (good[:2], ("corrupt", "again")),
        "without its end": (good[:-2], ("cut off", "copy it again")),
        "half": (noise[: len(noise) // 2], ("cut off", "copy it again")),
        "only markers": (b"\xff\xd8\xff\xd9", ("corrupt",)),
        "garbage": (b"\xff\xd8" + bytes(500) + b"\xff\xd9", ("corrupt",)),
        "of another size": (jpeg(32, 64), size),
        "of one pixel": (jpeg(1, 1), size),
        "20000x20000": (header_of(20000), ("20000x20000", "resize the image")),
        "65500x65500": (header_of(65500), ("65500x65500", "resize the image")),
        "of no pixels": (header_of(0), ("corrupt",)),
    }
    for name, (data, words) in contents.items():
        yield frames(f"image {name}", replaced(PICTURE, data), "001_CAM_FRONT.jpg", *words)
    missing = ("001.json", "CAM_FRONT.image", "does not exist", "give a path relative to")
    yield frames("image missing", lambda f: (f / PICTURE).unlink(), *missing)
    yield frames("image is a pipe", pipe, *missing)
    yield frames("image of 8 GiB", lambda f: sparse(f / PICTURE, good[:-2]), "001_CAM_FRONT.jpg", "larger than")


def pipe(folder: Path) -> None:
    (folder / PICTURE).unlink()
    os.mkfifo(folder / PICTURE)


def jpeg(width: int, height: int) -> bytes:
    """A grey picture."""
    return encoded(np.full((height, width, 3), 90, np.uint8))


def encoded(pixels: NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def header_of(pixels: int) -> bytes:
    """A small picture that claims to be a square of so many pixels."""
    data = bytearray(jpeg(64, 64))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = pixels.to_bytes(2) * 2
    return bytes(data)
