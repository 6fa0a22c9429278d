"""Malformed ONNX files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from tests.corpus.case import Malformed, Sample, link_tree, nothing, write

Make = Callable[[Path, Sample], object]
WEIGHT = np.ones(300, np.float32)


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
        "a million parts": (parts(2**20), "has more than 524288 parts"),
        "compare": (nothing, ""),
    }
    for name, (make, words) in makers.items():
        yield Malformed(f"onnx: {name}", "inspect bad.onnx", ("bad.onnx", words), make)
        yield Malformed(f"rewrite: {name}", "rewrite bad.onnx -o out.onnx", ("bad.onnx", words), make)
    against = "inspect {sample}/model.pth --against {sample}/bundle/model.onnx"
    yield Malformed("onnx: to be compared", against, ("model.onnx cannot be compared",), nothing)
    for name, (make, words) in (TENSORS | EXTERNAL | ATTRIBUTES | GRAPHS).items():
        yield Malformed(f"rewrite: {name}", "rewrite bad.onnx -o out.onnx", ("bad.onnx", words), make)
    for command in ("rewrite bundle -o out.onnx", "run bundle {sample}/frames -o out"):
        refusal = ("bundle/model.onnx cannot be read", "is a link to", "put the file of weights")
        yield Malformed(f"{command.split()[0]}: weights of a bundle behind a link", command, refusal, linked_bundle)


def cut_off(folder: Path, sample: Sample) -> None:
    data = (sample.bundle / "model.onnx").read_bytes()
    (folder / "bad.onnx").write_bytes(data[: len(data) // 2])


def huge(folder: Path, sample: Sample) -> None:
    with (folder / "bad.onnx").open("wb") as file:
        file.truncate(2**33)


def parts(count: int) -> Make:
    """A graph of nodes that hold nothing, each of two bytes."""

    def make(folder: Path, sample: Sample) -> None:
        size = 2 * count
        length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
        (folder / "bad.onnx").write_bytes(b"\x3a" + length + b"\x0a\x00" * count)

    return make


def model(*nodes: NodeProto, weight: TensorProto | None = None) -> ModelProto:
    """A model from x to y, of 300 floats each; by default it adds the weight w."""
    values = [onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [300]) for name in "xy"]
    weights = [onnx.numpy_helper.from_array(WEIGHT, "w") if weight is None else weight]
    graph = onnx.helper.make_graph(nodes or [node("Add")], "g", values[:1], values[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


def node(op: str, inputs: tuple[str, ...] = ("x", "w"), **attributes: Any) -> NodeProto:
    return onnx.helper.make_node(op, inputs, ["y"], "the one", **attributes)


def saved(proto: ModelProto) -> Make:
    return write("bad.onnx", proto.SerializeToString())


def weight(**fields: Any) -> Make:
    """A model whose weight is otherwise in these fields."""
    usual: dict[str, Any] = {"name": "w", "data_type": TensorProto.FLOAT, "dims": [300]}
    proto = TensorProto(**usual | fields)
    return saved(model(weight=proto))


def input_of_type(number: int) -> Make:
    proto = model()
    proto.graph.input[0].type.tensor_type.elem_type = number
    return saved(proto)


TENSORS = {
    "type 99": (
        weight(data_type=99, raw_data=bytes(2400)),
        "tensor 'w' cannot be read: ValueError: ONNX has no type",
    ),
    "type -1": (weight(data_type=-1, raw_data=bytes(2400)), "ONNX has no type -1"),
    "no type": (weight(data_type=0, raw_data=bytes(1200)), "ONNX has no type 0"),
    "no values": (weight(), "tensor 'w' cannot be read"),
    "few values": (weight(float_data=[1, 2, 3]), "tensor 'w' cannot be read"),
    "few bytes": (weight(raw_data=bytes(1199)), "tensor 'w' has 1199 bytes where 1200 are stated"),
    "many bytes": (weight(raw_data=bytes(1201)), "tensor 'w' has 1201 bytes where 1200 are stated"),
    "negative shape": (weight(dims=[-300], raw_data=bytes(1200)), "its shape is [-300]"),
    "immense shape": (weight(dims=[2**62] * 64, raw_data=bytes(1200)), "1200 bytes where an integer of"),
    "65 dimensions": (weight(dims=[1] * 64 + [300], raw_data=bytes(1200)), "it has 65 dimensions, the most is 64"),
    "few texts": (weight(data_type=TensorProto.STRING, string_data=[b"a"]), "has 1 texts where 300 are stated"),
    "input of type 99": (input_of_type(99), "a value has the unknown type 99"),
    "input of type -5": (input_of_type(-5), "a value has the unknown type -5"),
}


def external(size: int = 1200, **entries: str) -> Make:
    """A model whose weight lies in w.bin, of so many bytes, or where else the entries say."""

    def make(folder: Path, sample: Sample) -> None:
        proto = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[300], data_location=TensorProto.EXTERNAL)
        for key, value in ({"location": "w.bin"} | entries).items():
            proto.external_data.add(key=key, value=value)
        (folder / "w.bin").write_bytes(bytes(size))
        saved(model(weight=proto))(folder, sample)

    return make


def piped(folder: Path, sample: Sample) -> None:
    external()(folder, sample)
    (folder / "w.bin").unlink()
    os.mkfifo(folder / "w.bin")


def linked(target: str) -> Make:
    """The file of weights is a link."""

    def make(folder: Path, sample: Sample) -> None:
        external()(folder, sample)
        (folder / "w.bin").unlink()
        (folder / "w.bin").symlink_to(target)

    return make


def linked_bundle(folder: Path, sample: Sample) -> None:
    link_tree(sample.bundle, folder / "bundle")
    (folder / "bundle/model.onnx.data").rename(folder / "blob")
    (folder / "bundle/model.onnx.data").symlink_to("../blob")


EXTERNAL = {
    "weights too short": (external(length="4"), "weight 'w' takes 4 bytes of 'w.bin' and has 1200"),
    "weights cut off": (external(1000), "external weights of ONNX model bad.onnx cannot be read"),
    "weights cut off at the end": (external(1000, length="1200"), "the file has 1000 bytes"),
    "weights begin late": (external(offset="4", length="1200"), "has bytes 4 to 1204 of 'w.bin'"),
    "weights begin before": (external(offset="-4", length="1200"), "has bytes -4 to 1196 of 'w.bin'"),
    "weights begin at a word": (external(offset="here"), "invalid literal"),
    "weights of many digits": (external(length="9" * 5000), "Exceeds the limit"),
    "weights missing": (external(location="v.bin"), "'v.bin': No such file or directory"),
    "weights of a long name": (external(location="x" * 5000), "File name too long"),
    "weights of no name": (external(location=""), "is no file in the model's folder"),
    "weights above": (external(location="../w.bin"), "'../w.bin' is no file in the model's folder"),
    "weights anywhere": (external(location="/etc/passwd"), "'/etc/passwd' is no file in the model's folder"),
    "weights in a folder": (external(location="."), "Is a directory"),
    "weights behind a file": (external(location="w.bin/w.bin"), "Not a directory"),
    "weights in a pipe": (piped, "is not a regular file"),
    "weights behind a link": (linked("/etc/passwd"), "'w.bin' is a link to /etc/passwd, out of the model's folder"),
    "weights behind a device": (linked("/dev/zero"), "'w.bin' is a link to /dev/zero, out of the model's folder"),
    "weights behind a lost link": (linked("gone"), "'w.bin': No such file or directory"),
    "weights in a circle": (linked("w.bin"), "Too many levels of symbolic links"),
}


def attribute(op: str, name: str, value: Any, inputs: tuple[str, ...] = ("x",)) -> Make:
    """A model of one node."""
    return saved(model(node(op, inputs, **{name: value})))


ATTRIBUTES = {
    "cast to 99": (attribute("Cast", "to", 99), "node 'the one' (Cast) has the attribute to = 99; it must be"),
    "cast to -1": (attribute("Cast", "to", -1), "to = -1; it must be the number of a data type"),
    "cast to the largest": (attribute("Cast", "to", 2**63 - 1), "to = 9223372036854775807; it must be"),
    "dtype 77": (attribute("EyeLike", "dtype", 77), "dtype = 77; it must be"),
    "stride 0": (attribute("MaxPool", "strides", [0]), "Required attribute 'kernel_shape' is missing"),
    "dilation 0": (saved(model(node("Conv", dilations=[0]))), "dilations = [0]; it must be from 1"),
    "no groups": (saved(model(node("Conv", group=0))), "group = 0; it must be from 1"),
    "blocks of 0": (attribute("DepthToSpace", "blocksize", 0), "blocksize = 0; it must be from 1"),
    "axis 99": (attribute("Softmax", "axis", 99), "axis = 99; it must be from -64 to 63"),
    "axis of the smallest": (attribute("Concat", "axis", -(2**63)), "axis = -9223372036854775808; it must be"),
    "axis -1": (attribute("Transpose", "perm", [-1]), "perm = [-1]; it must be from 0 to 63"),
    "mode": (attribute("Resize", "mode", "best"), "mode = 'best'; it must be one of nearest, linear, cubic"),
    "long mode": (attribute("Pad", "mode", "m" * 10**6, ("x", "w")), "it must be one of constant, reflect, edge, wrap"),
    "escape in a mode": (attribute("GridSample", "padding_mode", b"\x1b[2J", ("x", "w")), r"padding_mode = '\x1b[2J'"),
    "attribute of another type": (attribute("Cast", "to", "float"), "ONNX's checker refuses the model bad.onnx"),
    "attribute that is unknown": (attribute("Relu", "speed", 9), "Unrecognized attribute: speed"),
    "attribute that is missing": (saved(model(node("Cast", ("x",)))), "Required attribute 'to' is missing"),
}


def functions(*bodies: tuple[str, tuple[str, ...]]) -> Make:
    """Local functions, each with its name and the names of those that it calls in a row."""
    proto = model(onnx.helper.make_node(bodies[-1][0], ["x"], ["y"], domain="my"))
    proto.opset_import.append(onnx.helper.make_opsetid("my", 1))
    for name, called in bodies:
        tensors = ["a", *(f"t{index}" for index in range(len(called) - 1)), "b"]
        nodes = [
            onnx.helper.make_node(call, [tensors[index]], [tensors[index + 1]], domain="" if call == "Relu" else "my")
            for index, call in enumerate(called)
        ]
        proto.functions.append(onnx.helper.make_function("my", name, ["a"], ["b"], nodes, proto.opset_import))
    return saved(proto)


GRAPHS = {
    "name without end": (saved(model(node("Add", ("x", "n" * 10**6)))), "which nothing makes"),
    "escape in an operator": (saved(model(node("\x1b[2J", ("x", "n")))), r"(\x1b[2J) uses 'n', which nothing makes"),
    "functions that double": (
        functions(("F0", ("Relu",)), *((f"F{index}", (f"F{index - 1}",) * 2) for index in range(1, 60))),
        "stand for about 2^",
    ),
    "functions in a circle": (functions(("F0", ("F1",)), ("F1", ("F0",))), "call each other in a circle"),
}
