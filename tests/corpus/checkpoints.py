"""Malformed checkpoints: cut off, hostile, of foreign content, or not those of the model."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from tests.corpus.case import MARK, Malformed, Sample, nothing, write

CONVERT = "convert bad.pth --config {sample}/model.toml --motion-anchors {sample}/anchors.npy -o out"
COMMANDS = itertools.cycle([CONVERT, "inspect bad.pth", "init-stage1 bad.pth -o out.pth"])
WEIGHTS = {"head.weight": torch.ones(30, 40), "head.bias": torch.zeros(30)}


def malformed_checkpoints() -> Iterator[Malformed]:
    yield from absent_files()
    yield from cut_off_files()
    yield from foreign_files()
    yield from parts()
    yield from code()
    yield from values()
    yield from bombs()
    yield from misfits()


def checkpoint(name: str, make: Callable[[Path, Sample], object], *words: str) -> Malformed:
    """A case for any command that reads a checkpoint."""
    return Malformed(f"checkpoint: {name}", next(COMMANDS), ("checkpoint bad.pth", *words), make)


def torch_file(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


LAYOUTS = {
    "zip": torch_file(WEIGHTS),
    "legacy": torch_file(WEIGHTS, _use_new_zipfile_serialization=False),
    "safetensors": save(WEIGHTS),
}


def absent_files() -> Iterator[Malformed]:
    yield checkpoint("missing", nothing, "No such file", "check the path")
    yield checkpoint("empty", write("bad.pth", b""), "is empty", "copy or download it again")
    yield checkpoint("directory", lambda f, s: (f / "bad.pth").mkdir(), "is a directory; give the file itself")


def cut_off_files() -> Iterator[Malformed]:
    rng = random.Random(3)
    for layout, data in LAYOUTS.items():
        for size in sorted(rng.sample(range(8, len(data)), 10)):
            yield checkpoint(f"{layout} cut off at byte {size}", write("bad.pth", data[:size]), "again")


def foreign_files() -> Iterator[Malformed]:
    foreign = {
        "html": b"<html>404</html>",
        "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 344174815\n",
        "text": b"dear diary",
        "zeros": bytes(4096),
        "gzip": b"\x1f\x8b\x08" + bytes(100),
    }
    for name, data in foreign.items():
        yield checkpoint(name, write("bad.pth", data), "neither a PyTorch nor a safetensors file", "download it again")


def parts() -> Iterator[Malformed]:
    def indexed(name: str, index: Any, *words: str) -> Malformed:
        text = json.dumps(index) if not isinstance(index, str) else index
        command = next(COMMANDS).replace("bad.pth", "bad.index.json")
        return Malformed(f"checkpoint in parts: {name}", command, words, write("bad.index.json", text.encode()))

    yield indexed("damaged index", '{"weight_map": ', "bad.index.json is not valid JSON", "give the index")
    yield indexed("index without a map", {"metadata": {}}, "field 'weight_map' is missing", "give the index")
    yield indexed("a number for a part", {"weight_map": {"a": 1}}, "$.weight_map.a: expected str", "give the index")
    yield indexed("no part", {"weight_map": {}}, "names 0 parts", "give the index")
    outside = {"weight_map": {"a": "../../etc/passwd"}}
    yield indexed("a part elsewhere", outside, "names '../../etc/passwd', which is no file beside it")
    yield indexed("itself as part", {"weight_map": {"a": "bad.index.json"}}, "neither a PyTorch nor a safetensors file")
    yield indexed("missing part", {"weight_map": {"a": "b.pth"}}, "checkpoint b.pth cannot be read", "check the path")
    alone = write("m-00001-of-00002.pth", torch_file(WEIGHTS))
    command = "inspect m-00001-of-00002.pth"
    yield Malformed("checkpoint in parts: one alone", command, ("part 1 of 2", "give their index"), alone)
    command = CONVERT + " --weights ema"
    absent = ("bad.pth holds no moving averages", "leave out --weights ema")
    yield Malformed("checkpoint: no averages", command, absent, write("bad.pth", torch_file(WEIGHTS)))


class RunsCode:
    """Leaves a mark behind when a pickle of it is loaded carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({MARK!r}, 'w')",)


class CallsSystem:
    """Likewise, through a shell."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {MARK}",)


def code() -> Iterator[Malformed]:
    refused = ("is refused", "reading it would run that", "torch.save(model.state_dict(), file)")
    for protocol, kind in itertools.product(range(2, 6), (RunsCode, CallsSystem)):
        data = pickle.dumps({"state_dict": kind()}, protocol)
        yield checkpoint(f"{kind.__name__}, pickle protocol {protocol}", write("bad.pth", data), *refused)
    for protocol in (0, 1):
        data = pickle.dumps(RunsCode(), protocol)
        yield checkpoint(f"code, pickle protocol {protocol}", write("bad.pth", data), "neither a PyTorch")
    for protocol in range(2, 6):
        data = torch_file(WEIGHTS | {"x": RunsCode()}, pickle_protocol=protocol)
        yield checkpoint(f"code among weights, protocol {protocol}", write("bad.pth", data), *refused)
    legacy = torch_file({"meta": CallsSystem()}, _use_new_zipfile_serialization=False)
    yield checkpoint("code in a legacy file", write("bad.pth", legacy), *refused)
    yield checkpoint("whole module", write("bad.pth", torch_file(nn.Linear(2, 2))), *refused, "torch.nn.modules")
    yield checkpoint("TorchScript", torch_script, "is a TorchScript program")


def torch_script(folder: Path, sample: Sample) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(nn.ReLU(), torch.ones(1)), folder / "bad.pth")


def values() -> Iterator[Malformed]:
    weight = torch.ones(2, 2)
    dense = "is not a dense, named tensor"
    contents: dict[str, tuple[Any, str]] = {
        "list": ([weight], "holds no state dict but a list"),
        "tensor": (weight, "holds no state dict but a Tensor"),
        "no entries": ({}, "holds no weights"),
        "empty state dict": ({"state_dict": {}}, "holds no weights"),
        "state dict is None": ({"state_dict": None}, "holds no weights"),
        "state dict is text": ({"state_dict": "weights"}, "holds no weights"),
        "number among weights": ({"w": weight, "epoch": 3}, dense),
        "list among weights": ({"w": [1.0, 2.0]}, dense),
        "nested dict": ({"model": {"w": weight}}, dense),
        "numbered entry": ({0: weight}, dense),
        "sparse": ({"w": weight.to_sparse()}, dense),
        "complex": ({"w": weight.to(torch.complex64)}, dense),
        "expanded to 4 TB": ({"w": torch.ones(1).expand(10**6, 10**6)}, dense),
        "on the meta device": ({"w": torch.empty(10**6, 10**6, device="meta")}, ""),
    }
    for name, (content, fault) in contents.items():
        yield checkpoint(name, write("bad.pth", torch_file(content)), fault)
    words = ("checkpoint bad.pth", "'head.bias'", "before the training diverged")
    for name, value in {"NaN": torch.nan, "infinity": -torch.inf}.items():
        data = torch_file(WEIGHTS | {"head.bias": torch.full((30,), value)})
        yield Malformed(f"checkpoint: {name}", CONVERT, words, write("bad.pth", data))


def bombs() -> Iterator[Malformed]:
    yield checkpoint("compressed gigabyte", compressed_gigabyte, "compressed", "torch.save")
    yield checkpoint("compressed tensors", compressed_tensors, "compressed", "torch.save")
    yield checkpoint("storage of a terabyte", write("bad.pth", huge_storage()), "again")
    yield checkpoint("terabyte in a zip's directory", write("bad.pth", huge_directory_entry()), "again")
    header = b'{"w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    huge = struct.pack("<Q", len(header)) + header
    yield checkpoint("safetensors of a terabyte", write("bad.pth", huge), "safetensors file", "again")
    yield checkpoint("safetensors header of an exabyte", write("bad.pth", struct.pack("<Q", 2**60) + b"{}"), "again")
    nested = b'{"a":' * 100_000
    deep = struct.pack("<Q", len(nested)) + nested
    yield checkpoint("safetensors header nested deeply", write("bad.pth", deep), "safetensors file", "again")
    yield checkpoint("sparse file of 8 GiB", sparse, "again")
    memo = b"\x80\x02]r\xff\xff\xff\x7f."
    yield checkpoint("memo of 2 billion entries", write("bad.pth", memo), "")
    yield from calls()
    yield from archives()
    shared = torch_file(
        {f"w{i}": torch.zeros(2**17, dtype=torch.float16) for i in range(2)}
        | dict.fromkeys((f"v{i}" for i in range(10_000)), torch.zeros(2**18, dtype=torch.float16))
    )
    yield checkpoint("10,000 entries of one memory", write("bad.pth", shared), "share their memory")


def calls() -> Iterator[Malformed]:
    """Pickles that ask for functions which set memory aside, none of them over a hundred bytes but for the last."""
    size = b"\x8a\x05" + (6 * 2**30).to_bytes(5, "little")
    for name in ("builtins bytearray", "torch Tensor", "torch FloatTensor", "torch.storage UntypedStorage"):
        pickled = b"\x80\x02}X\x01\0\0\0wc" + name.replace(" ", "\n").encode() + b"\n" + size + b"\x85Rs."
        yield checkpoint(f"call of {name}", write("bad.pth", zipped({"data.pkl": pickled})), "torch.save")
    copies = b"(lp0\n" + b"K\0a" * 10_000 + b"0(" + b"c__builtin__\nset\ng0\n\x85R" * 50_000 + b"l."
    yield checkpoint("50,000 copies of a list", write("bad.pth", zipped({"data.pkl": b"\x80\x02" + copies})), "")
    deep = b"\x80\x02}X\x0a\0\0\0state_dict}()" + b"\x85" * 500_000 + b"tK\x01ss."
    yield checkpoint("a key nested 500,000 deep", write("bad.pth", zipped({"data.pkl": deep})), "")
    long = torch_file({"state_dict": {"w" * 5_000_000: 3}})
    yield checkpoint("a name of 5 MB", write("bad.pth", long), "is not a dense, named tensor")
    tensors = {
        "float4": torch.empty(4, dtype=torch.float4_e2m1fn_x2),
        "bits8": torch.empty(4, dtype=torch.bits8),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.quint8),
        "of 65 dimensions": torch.ones([1] * 65),
        "of 17 dimensions": torch.ones([1] * 17),
    }
    for name, tensor in tensors.items():
        yield checkpoint(f"tensor {name}", write("bad.pth", torch_file({"w": tensor})), "is not a dense, named tensor")
    header = json.dumps({"a": {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]}}).encode()
    data = struct.pack("<Q", len(header)) + header + bytes(4)
    yield checkpoint("safetensors of 65 dimensions", write("bad.pth", data), "is not a dense, named tensor")


def archives() -> Iterator[Malformed]:
    """Archives of which one reader could make something else than another, or more than there is."""
    good = {"data.pkl": b"\x80\x02}.", "version": b"3\n", "byteorder": b"little"}
    zeros = bytes(2**20)
    for name in ("version", "byteorder", ".format_version", ".data/serialization_id"):
        data = zipped(good | {name: zeros}, compressed=(name,))
        yield checkpoint(f"compressed member {name}", write("bad.pth", data), "compressed", "torch.save")
    data = zipped(good, compressed=("data.pkl",)).replace(b"PK\x01\x02\x14\x03\x14\0", b"PK\x01\x02\x14\x03\x63\0")
    yield checkpoint("compressed for a later version of zip", write("bad.pth", data), "compressed", "torch.save")
    yield checkpoint("archive with a comment", write("bad.pth", zipped(good, comment=b"PK\x05\x06")), "again")
    yield checkpoint("archive behind something else", write("bad.pth", b"PK\x03\x04" + zipped(good)), "again")
    twice = zipped(good | {"Data.pkl": b"\x80\x02}."})
    yield checkpoint("archive with one name twice", write("bad.pth", twice), "again")
    yield checkpoint("archive without a pickle", write("bad.pth", zipped({"version": b"3"})), "again")


def zipped(members: dict[str, bytes], compressed: tuple[str, ...] = (), comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"a/{name}", data, zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED)
        archive.comment = comment
    return buffer.getvalue()


def compressed_gigabyte(folder: Path, sample: Sample) -> None:
    """A zip of a few megabytes."""
    with zipfile.ZipFile(folder / "bad.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("archive/data.pkl", "w") as file:
            for _ in range(2**10):
                file.write(bytes(2**20))
        archive.writestr("archive/version", "3")


def compressed_tensors(folder: Path, sample: Sample) -> None:
    """A good checkpoint that was packed again."""
    with (
        zipfile.ZipFile(io.BytesIO(LAYOUTS["zip"])) as good,
        zipfile.ZipFile(folder / "bad.pth", "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in good.namelist():
            bad.writestr(name, good.read(name))


def huge_storage() -> bytes:
    """A legacy file whose pickle states a storage of 2^40 bytes."""
    return LAYOUTS["legacy"].replace(struct.pack("<H", 1200), struct.pack("<H", 65535))


def huge_directory_entry() -> bytes:
    """A zip whose directory gives every member 4 GB."""
    data = bytearray(LAYOUTS["zip"])
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        data[start + 20 : start + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
        start += 4
    return bytes(data)


def sparse(folder: Path, sample: Sample) -> None:
    with (folder / "bad.pth").open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**33)


def misfits() -> Iterator[Malformed]:
    """Checkpoints of another model."""
    key = "planning_head.reg_branch.2.weight"
    changes: dict[str, tuple[Callable[[dict[str, Tensor]], object], tuple[str, ...]]] = {
        "missing entry": (lambda w: w.pop(key), ("1 missing", key)),
        "unexpected entry": (lambda w: w.update({"planning_head.extra": torch.ones(1)}), ("1 unexpected", "extra")),
        "other shape": (lambda w: w.update({key: torch.ones(14, 64)}), ("planning.steps is 6", "7", "--config")),
        "other rank": (lambda w: w.update({key: torch.ones(12)}), ("mis-shaped", key)),
        "integers as weights": (lambda w: w.update({key: w[key].to(torch.int32)}), ("int32", "float32", key)),
        "other prefix": (
            lambda w: w.update({f"student.{k}": w.pop(k) for k in list(w)}),
            ("makes no part", "'student.'"),
        ),
        "one layer more": (
            lambda w: w.update({k.replace("layers.0", "layers.1"): v for k, v in list(w.items()) if "decoder" in k}),
            ("tracking.layers", "--config"),
        ),
        "planner without adapter": (
            lambda w: [w.pop(k) for k in list(w) if "bev_adapter" in k],
            ("planning_head.bev_adapter.", "it is of UniAD v1.0", "take the weights of release v1.0.1"),
        ),
        "of UniAD-base": (
            lambda w: w.update({"pts_bbox_head.bev_embedding.weight": torch.zeros(40000, 32)}),
            ("bev.height x bev.width is", "40000", "convert with --config configs/uniad_base_stage2.toml"),
        ),
        "half a head": (lambda w: [w.pop(k) for k in list(w)[::2] if k.startswith("occ_head")], ("missing", "occ")),
    }
    for name, (change, words) in changes.items():
        yield Malformed(f"checkpoint: {name}", CONVERT, words, changed_weights(change))
    defaults = CONVERT.replace("--config {sample}/model.toml ", "").replace("bad.pth", "{sample}/model.pth")
    yield Malformed("checkpoint: of another config", defaults, ("configuration is not the checkpoint's",), nothing)
    stage1 = "init-stage1 {sample}/model.pth -o out.pth"
    yield Malformed("checkpoint: already prepared", stage1, ("already holds 'query_embedding.weight'",), nothing)
    data = torch_file(WEIGHTS)
    words = ("the checkpoint has no 'pts_bbox_head.query_embedding.weight'", "give the BEVFormer-tiny")
    yield Malformed("checkpoint: no detector", "init-stage1 bad.pth -o out.pth", words, write("bad.pth", data))


def changed_weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path, Sample], object]:
    def make(folder: Path, sample: Sample) -> None:
        weights = torch.load(sample.checkpoint, mmap=True)["state_dict"]
        change(weights)
        torch.save({"state_dict": weights}, folder / "bad.pth")

    return make
