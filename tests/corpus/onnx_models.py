"""Malformed ONNX files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx

from tests.corpus.case import Malformed, Sample, nothing, write


def malformed_onnx() -> Iterator[Malformed]:
    empty = onnx.ModelProto().SerializeToString()
    makers = {
        "missing": (nothing, "No such file"),
        "empty": (write("bad.onnx", b""), "is empty"),
        "text": (write("bad.onnx", "dear diary"), "cannot be read"),
        "no graph": (
            write("bad.onnx", empty + onnx.helper.make_model(onnx.GraphProto()).SerializeToString()),
            "no nodes",
        ),
        "cut off": (cut_off, "export it again"),
        "8 GiB": (huge, "export it again"),
        "compare": (nothing, ""),
    }
    for name, (make, words) in makers.items():
        yield Malformed(f"onnx: {name}", "inspect bad.onnx", ("bad.onnx", words), make)
        yield Malformed(f"rewrite: {name}", "rewrite bad.onnx -o out.onnx", ("bad.onnx", words), make)
    against = "inspect {sample}/model.pth --against {sample}/bundle/model.onnx"
    yield Malformed("onnx: to be compared", against, ("model.onnx cannot be compared",), nothing)


def cut_off(folder: Path, sample: Sample) -> None:
    data = (sample.bundle / "model.onnx").read_bytes()
    (folder / "bad.onnx").write_bytes(data[: len(data) // 2])


def huge(folder: Path, sample: Sample) -> None:
    with (folder / "bad.onnx").open("wb") as file:
        file.truncate(2**33)
