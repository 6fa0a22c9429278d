"""Variations of every kind of input by a generator: the same ones in every run, each drawn from its name."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.corpus.case import Malformed, Sample, link_tree, replace_file
from tests.corpus.checkpoints import LAYOUTS, WEIGHTS, torch_file
from tests.corpus.frames import nuscenes_info
from tests.corpus.mutations import (
    NAMES,
    VALUES,
    altered_array,
    altered_document,
    altered_npy,
    altered_pickle,
    altered_zip,
    damaged,
)
from tests.evaluation.evaluations import evaluation
from tests.toolkit.config.official_style import STAGE2
from toolkit.bundle import MANIFEST, content_digest
from toolkit.config.model import CAMERAS
from toolkit.evaluation.evaluation_file import EVALUATION, write_evaluation

Vary = Callable[[Path, Sample, random.Random], object]
"""Writes an input into an empty folder."""
RUN = "run {sample}/bundle frames -o out --no-pictures"
RUN_BUNDLE = "run bundle {sample}/frames -o out --no-pictures"
VISUALIZE = "visualize results -o out"
REPORT_RUN = "report {sample}/bundle --run results -o out.html"
EVALUATE = "evaluate {sample}/results --data infos:x --against bad.json -o out"
REPLAY = "replay {sample}/bundle bad.npz -o out.npz"
INSPECT = "inspect bad.pth --json out.json"
ANCHORS = "convert {sample}/model.pth --motion-anchors bad.pkl -o out"
"""Of another configuration than the checkpoint's, so that nothing is converted."""
SCALARS = (
    "nan", "-1", "10_000_000_000", "1e400", "[]", "[[1]]", "{a=1}", "''", '"\\u001b[2J"', "0x" + "f" * 5000, "true",
)  # fmt: skip
TOKENS = ("-1", "1e400", "None", "[]", "{}", "'\\x1b[2J'", "9**9", "dict()", "(", "x", "0x" + "f" * 5000, "not", "*")


def generated() -> Iterator[Malformed]:
    yield from series("checkpoint, damaged", 50, [INSPECT], damaged_checkpoint, "bad.pth")
    yield from series("checkpoint, altered", 50, [INSPECT, "init-stage1 bad.pth -o out.pth"], altered_checkpoint)
    yield from series("checkpoint, packed", 50, [INSPECT], packed_checkpoint, "bad.pth")
    yield from series("anchors", 50, [ANCHORS], anchors)
    yield from series("TOML", 50, ["config bad.toml"], toml, "bad.toml")
    yield from series("Python config", 50, ["config bad.py"], python_config, "bad.py")
    yield from series("manifest", 50, ["inspect bundle", RUN_BUNDLE, "verify bundle --length 1"], manifest, "bundle")
    yield from series("frame", 60, [RUN, "verify {sample}/bundle --frames frames"], frame, "001.json")
    yield from series("camera picture", 30, [RUN], camera_picture, "frames/images")
    yield from series("inputs", 40, [REPLAY], inputs, "bad.npz")
    yield from series("inputs, packed", 40, [REPLAY], packed_inputs, "bad.npz")
    yield from series("result", 50, [VISUALIZE], result, "001.json")
    yield from series("grids", 40, [VISUALIZE], grids, "results/001.")
    yield from series("run record", 30, [REPORT_RUN], run_record, "results")
    yield from series("drawn picture", 10, [REPORT_RUN], drawn_picture, "results")
    yield from series("verification", 30, ["report {sample}/bundle --verify bad.json -o out.html"], verification, "bad")
    yield from series("evaluation", 30, [EVALUATE], judgement)
    yield from series("infos", 50, ["run {sample}/bundle infos:bad.pkl -o out --no-pictures"], infos, "bad.pkl")


def series(what: str, count: int, commands: Sequence[str], vary: Vary, *words: str) -> Iterator[Malformed]:
    for number, command in zip(range(count), itertools.cycle(commands), strict=False):
        name = f"{what} {number}"
        yield Malformed(name, command, words, drawn(name, vary))


def drawn(seed: str, vary: Vary) -> Callable[[Path, Sample], object]:
    return lambda folder, sample: vary(folder, sample, random.Random(seed))


def damaged_checkpoint(folder: Path, sample: Sample, rng: random.Random) -> None:
    (folder / "bad.pth").write_bytes(damaged(rng.choice(list(LAYOUTS.values())), rng))


def packed_checkpoint(folder: Path, sample: Sample, rng: random.Random) -> None:
    """An archive of which a member, often the pickle, is another."""
    alter = rng.choice([altered_pickle, damaged])
    data = altered_zip(
        LAYOUTS["zip"], rng, lambda content, rng: alter(content, rng) if content[:1] == b"\x80" else b"x"
    )
    (folder / "bad.pth").write_bytes(data)


def altered_checkpoint(folder: Path, sample: Sample, rng: random.Random) -> None:
    """One entry of another name or value, and something odd in the meta."""
    weights: dict[Any, Any] = dict(WEIGHTS)
    key = rng.choice(list(weights))
    match rng.randrange(4):
        case 0:
            weights[rng.choice(NAMES)] = weights.pop(key)
        case 1:
            weights[key] = rng.choice(VALUES)
        case 2:
            array = altered_array(weights[key].numpy(), rng)
            weights[key] = torch.from_numpy(array) if array.dtype.kind in "fiub" else array
        case 3:
            types = [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.int8, torch.uint16]
            weights[key] = weights[key].to(rng.choice(types))
    meta = {rng.choice(NAMES): rng.choice(VALUES), "CLASSES": rng.choice([[*NAMES], "car", 7, [["car"]]])}
    (folder / "bad.pth").write_bytes(torch_file({"state_dict": weights, "meta": meta}))


def anchors(folder: Path, sample: Sample, rng: random.Random) -> None:
    array = np.load(sample.folder / "anchors.npy")
    buffer = io.BytesIO()
    alter = rng.choice([damaged, altered_npy])
    if rng.random() < 0.5:
        content: Any = {"anchors_all": list(array), "grouped_classes": [["car"]]}
        if rng.random() < 0.5:
            content[rng.choice(list(content))] = rng.choice([*VALUES, [altered_array(array, rng)] * 4])
        pickle.dump(content, buffer, rng.randrange(6))
        alter = rng.choice([damaged, altered_pickle])
    else:
        np.save(buffer, array)
    (folder / "bad.pkl").write_bytes(alter(buffer.getvalue(), rng))


def toml(folder: Path, sample: Sample, rng: random.Random) -> None:
    lines = (sample.folder / "model.toml").read_text().splitlines()
    for _ in range(rng.randrange(1, 3)):
        place = rng.choice([i for i, line in enumerate(lines) if "=" in line])
        name, _, _ = lines[place].partition(" =")
        lines[place] = rng.choice(
            [
                f"{name} = {rng.choice(SCALARS)}",
                f"{rng.choice(NAMES).encode(errors='replace').decode()} = 1",
                ".".join([name] * rng.choice([2, 500, 1000, 5000])) + " = 1",
                "[" * rng.choice([3, 3000]) + "a",
                f"[{name}]",
                f"{name} = {{{', '.join(f'{name}.{i} = 1' for i in range(2000))}}}",
            ]
        )
    data = "\n".join(lines).encode()
    (folder / "bad.toml").write_bytes(damaged(data, rng) if rng.random() < 0.3 else data)


def python_config(folder: Path, sample: Sample, rng: random.Random) -> None:
    tokens = STAGE2.split(" ")
    for _ in range(rng.randrange(1, 3)):
        tokens[rng.randrange(len(tokens))] = rng.choice(TOKENS)
    data = " ".join(tokens).encode()
    (folder / "bad.py").write_bytes(damaged(data, rng) if rng.random() < 0.4 else data)


def manifest(folder: Path, sample: Sample, rng: random.Random) -> None:
    """By someone who knows how its digest is made."""
    link_tree(sample.bundle, folder / "bundle")
    path = folder / "bundle" / MANIFEST
    values = altered_document(json.loads(path.read_text()), rng)
    values["digest"] = content_digest(values)
    replace_file(path, json.dumps(values).encode())


def altered_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON text, mostly a valid one of something else."""
    return damaged(data, rng) if rng.random() < 0.2 else json.dumps(altered_document(json.loads(data), rng)).encode()


def frame(folder: Path, sample: Sample, rng: random.Random) -> None:
    link_tree(sample.frames, folder / "frames")
    path = folder / "frames/001.json"
    replace_file(path, altered_json(path.read_bytes(), rng))


def camera_picture(folder: Path, sample: Sample, rng: random.Random) -> None:
    """Mostly damaged in its header."""
    link_tree(sample.frames, folder / "frames")
    path = rng.choice(sorted((folder / "frames/images").iterdir()))
    data = path.read_bytes()
    length = rng.choice([20, 200, len(data)])
    replace_file(path, damaged(data[:length], rng) + data[length:])


def inputs(folder: Path, sample: Sample, rng: random.Random) -> None:
    with np.load(sample.inputs) as archive:
        arrays = dict(archive)
    key = rng.choice(list(arrays))
    arrays[key] = altered_array(arrays[key], rng)
    rng.choice([np.savez, np.savez_compressed])(folder / "bad.npz", **arrays)


def packed_inputs(folder: Path, sample: Sample, rng: random.Random) -> None:
    data = sample.inputs.read_bytes()
    alter = rng.choice([altered_npy, altered_npy, damaged])
    (folder / "bad.npz").write_bytes(damaged(data, rng) if rng.random() < 0.2 else altered_zip(data, rng, alter))


def result(folder: Path, sample: Sample, rng: random.Random) -> None:
    link_tree(sample.results, folder / "results")
    path = folder / "results/001.json"
    replace_file(path, altered_json(path.read_bytes(), rng))


def grids(folder: Path, sample: Sample, rng: random.Random) -> None:
    link_tree(sample.results, folder / "results")
    path = folder / "results/001.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    key = rng.choice(list(arrays))
    arrays[key] = altered_array(arrays[key], rng)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    whole = path.read_bytes()
    replace_file(path, rng.choice([buffer.getvalue(), altered_zip(whole, rng, altered_npy), damaged(whole, rng)]))


def run_record(folder: Path, sample: Sample, rng: random.Random) -> None:
    link_tree(sample.results, folder / "results")
    path = folder / "results/run.jsonl"
    lines = path.read_bytes().splitlines()
    chosen = rng.randrange(len(lines))
    lines[chosen] = altered_json(lines[chosen], rng)
    replace_file(path, b"\n".join(lines) + b"\n")


def drawn_picture(folder: Path, sample: Sample, rng: random.Random) -> None:
    """Mostly damaged in its header."""
    link_tree(sample.results, folder / "results")
    path = folder / "results/001.png"
    data = path.read_bytes()
    length = rng.choice([30, 30, len(data)])
    replace_file(path, damaged(data[:length], rng) + data[length:])


def verification(folder: Path, sample: Sample, rng: random.Random) -> None:
    (folder / "bad.json").write_bytes(altered_json(sample.verification.read_bytes(), rng))


def judgement(folder: Path, sample: Sample, rng: random.Random) -> None:
    """metrics.json of an evaluation."""
    write_evaluation(evaluation(), folder / EVALUATION)
    data = (folder / EVALUATION).read_bytes()
    (folder / EVALUATION).unlink()
    (folder / "bad.json").write_bytes(altered_json(data, rng))


def infos(folder: Path, sample: Sample, rng: random.Random) -> None:
    """Info files of nuScenes, of two frames."""
    content = {"infos": [nuscenes_info(sample, number) for number in range(2)]}
    data = pickle.dumps(content, rng.randrange(6))
    if rng.random() < 0.4:
        data = rng.choice([damaged, altered_pickle])(data, rng)
    else:
        values: dict[str, Any] = content["infos"][1]
        key = rng.choice(list(values))
        if key == "cams":
            values = values["cams"][rng.choice(CAMERAS)]
            key = rng.choice(list(values))
        old = values[key]
        values[key] = altered_array(old, rng) if isinstance(old, np.ndarray) else rng.choice([*VALUES, 10**5000])
        data = pickle.dumps(content)
    (folder / "bad.pkl").write_bytes(data)
