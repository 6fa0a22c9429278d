"""Names that a terminal, a picture or a page would obey are shown as text, whichever command meets them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.corpus.case import Sample, change_json, link_tree, replace_file, resign_manifest
from tests.corpus.frames import nuscenes_info
from tests.corpus.harness import run_bounded
from tests.corpus.mutations import ESCAPES, WRITTEN

Make = Callable[[Path, Sample], object]
LONG = ESCAPES * 10_000
LETTERS = "".join(map(chr, range(0x9C40, 0x9C40 + 20_000)))


def checkpoint(folder: Path, sample: Sample) -> None:
    weights = {f"{ESCAPES}.{name}": torch.ones(2) for name in ("weight", LONG)}
    meta = {ESCAPES: ESCAPES, "long": LONG, "CLASSES": [ESCAPES]}
    torch.save({"state_dict": weights, "meta": meta}, folder / "odd.pth")


def model(folder: Path, sample: Sample) -> None:
    """Every name that an ONNX file holds."""
    shape = helper.make_tensor_value_info(f"{WRITTEN}x", TensorProto.FLOAT, [WRITTEN])
    result = helper.make_tensor_value_info(f"{WRITTEN}y", TensorProto.FLOAT, [WRITTEN])
    nodes = [
        helper.make_node("Identity", [shape.name], ["between"], f"{WRITTEN}/one"),
        helper.make_node("Pow", ["between", "two"], [result.name], f"{WRITTEN}/two"),
    ]
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    graph = helper.make_graph(nodes, WRITTEN, [shape], [result], [two])
    proto = helper.make_model(graph, producer_name=WRITTEN, opset_imports=[helper.make_opsetid("", 18)])
    proto.metadata_props.add(key=WRITTEN, value=WRITTEN * 1000)
    onnx.save(proto, folder / "odd.onnx")


def foreign_operator(folder: Path, sample: Sample) -> None:
    model(folder, sample)
    proto = onnx.load(folder / "odd.onnx")
    proto.graph.node[0].op_type = proto.graph.node[0].domain = WRITTEN
    proto.opset_import.add(domain=WRITTEN, version=1)
    onnx.save(proto, folder / "odd.onnx")


def scenes(name: str) -> Make:
    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.frames, folder / "frames")
        for path in sorted((folder / "frames").glob("*.json")):
            change_json(path, ("scene",), name)

    return make


def results(name: str) -> Make:
    def make(folder: Path, sample: Sample) -> None:
        link_tree(sample.results, folder / "results")
        for path in (folder / "results").glob("[0-9]*.json"):
            values = json.loads(path.read_text())
            values["scene"] = name
            for box in values["boxes"]:
                box["label"] = name
            replace_file(path, json.dumps(values).encode())
        path = folder / "results/run.jsonl"
        head, *frames = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [head, *(frame | {"scene": name, "repairs": name} for frame in frames)]
        replace_file(path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    return make


def infos(folder: Path, sample: Sample) -> None:
    content = {"infos": [nuscenes_info(sample, 0) | {"scene_token": ESCAPES}]}
    (folder / "odd.pkl").write_bytes(pickle.dumps(content))


def inputs(folder: Path, sample: Sample) -> None:
    np.savez(folder / "odd.npz", **{f"f0.in.{WRITTEN}": np.zeros(1)})  # type: ignore[arg-type]


def verification(folder: Path, sample: Sample) -> None:
    values = json.loads(sample.verification.read_text())
    values[0] |= {"reference": WRITTEN, "candidate": WRITTEN, "failure": WRITTEN}
    values[0]["comparisons"][0] |= {"tensor": WRITTEN, "submodule": WRITTEN}
    (folder / "odd.json").write_text(json.dumps(values))


def plugin(folder: Path, sample: Sample) -> None:
    (folder / "odd.py").write_text(f"raise ValueError({ESCAPES!r} * 10_000)\n")


def classes(folder: Path, sample: Sample) -> None:
    text = json.dumps(WRITTEN)
    (folder / "odd.toml").write_text(f"class_names = [{text}]\n")
    (folder / "odd.py").write_text(f"model = dict(type={ESCAPES!r}, {'x' * 5000}=1)\n")


PROVENANCE = resign_manifest("provenance", value={"meta": {WRITTEN: WRITTEN * 1000}, "tools": {WRITTEN: WRITTEN}})
CASES: dict[str, tuple[str, Make]] = {
    "keys and meta": ("inspect odd.pth --json out.json", checkpoint),
    "keys to compare": ("inspect odd.pth --against {sample}/model.pth --json out.json", checkpoint),
    "keys to convert": ("convert odd.pth -o out", checkpoint),
    "names of a model": ("inspect odd.onnx --json out.json", model),
    "names of a model to rewrite": ("rewrite odd.onnx -o out.onnx --explain", model),
    "an operator to rewrite": ("rewrite odd.onnx -o out.onnx --explain", foreign_operator),
    "scenes to run": ("run {sample}/bundle frames -o out", scenes(ESCAPES)),
    "scenes of 20,000 letters": ("run {sample}/bundle frames -o out", scenes("x" * 20_000)),
    "scenes of 20,000 different letters": (
        "run {sample}/bundle frames -o out",
        scenes(LETTERS),
    ),
    "scenes of frames": ("visualize {sample}/results --frames frames -o out", scenes(ESCAPES)),
    "scenes and labels": ("visualize results -o out --rerun out.rrd", results(ESCAPES)),
    "labels of 20,000 letters": ("visualize results -o out", results("x" * 20_000)),
    "scenes and repairs": ("report {sample}/bundle --run results -o out.html", results(ESCAPES)),
    "a verification": ("report {sample}/bundle --verify odd.json -o out.html", verification),
    "provenance": ("inspect bundle --json out.json", PROVENANCE),
    "provenance in a report": ("report bundle -o out.html", PROVENANCE),
    "an info file": ("run {sample}/bundle infos:odd.pkl -o out", infos),
    "inputs": ("replay {sample}/bundle odd.npz -o out.npz", inputs),
    "a plugin that fails": ("plugins --plugin odd.py", plugin),
    "classes in TOML": ("config odd.toml", classes),
    "types in Python": ("config odd.py", classes),
    "an argument": (f"inspect '{WRITTEN.replace(chr(10), '')}'", lambda folder, sample: None),
}


@pytest.mark.parametrize(("command", "make"), CASES.values(), ids=CASES)
def test_names_are_shown_as_text(
    command: str,
    make: Make,
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, sample)
    ending = run_bounded(command, tmp_path, sample, capfd)
    assert ending.status in (0, 2), ending
    assert max(len(ending.out), len(ending.err)) < 20_000
    assert len(ending.err.splitlines()) <= 1
    for path in tmp_path.glob("out.html"):
        assert all(c.isprintable() or c == "\n" for c in path.read_text(encoding="utf-8"))
    for path in tmp_path.glob("out.json"):
        json.loads(path.read_text(encoding="utf-8"))
