"""ONNX files are read with errors that say what is wrong, and written whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto

from tests.graph.rewriting import text_model
from toolkit.bounded.limits import CallFailed, Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.errors import InputError
from toolkit.graph import model_file
from toolkit.graph.equivalence import outputs_of
from toolkit.graph.model_file import read_model, write_model

WEIGHT = np.arange(600, dtype=np.float32)
TEXT = "m (float[600] x) => (float[600] y) { y = Add (x, w) }"


def model() -> ModelProto:
    return text_model(TEXT, w=WEIGHT)


def save(proto: ModelProto, path: Path, **options: Any) -> Path:
    onnx.save(proto, path, **options)
    return path


def external(path: Path) -> Path:
    """A model whose weight lies in a file beside it."""
    return save(model(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def nodes(text: str) -> Callable[[Path], Path]:
    """A function that writes a model with these nodes, whatever they are."""

    def write(path: Path) -> Path:
        return save(text_model(f"m (float[2] x) => (float[2] y) {{ {text} }}"), path)

    return write


def of_opset(version: int) -> Callable[[Path], Path]:
    return lambda path: save(text_model(TEXT, version, w=WEIGHT), path)


def damaged(path: Path) -> Path:
    path.write_bytes(b"\x08\x08\x12\xff" * 9)
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def without_nodes(path: Path) -> Path:
    return save(ModelProto(ir_version=8), path)


def without_opset(path: Path) -> Path:
    proto = model()
    del proto.opset_import[:]
    return save(proto, path)


def without_weights(path: Path) -> Path:
    external(path)
    (path.parent / "weights.bin").unlink()
    return path


def cut_weights(path: Path) -> Path:
    external(path)
    file = path.parent / "weights.bin"
    file.write_bytes(file.read_bytes()[:1000])
    return path


def escaping_weights(path: Path) -> Path:
    external(path)
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../../etc/passwd"
    return save(proto, path)


def of_type_99(path: Path) -> Path:
    proto = model()
    proto.graph.initializer[0].data_type = 99
    return save(proto, path)


def without_attribute_type(path: Path) -> Path:
    proto = text_model("m (float[2] x) => (float[2] y) { y = LeakyRelu <alpha = 0.2> (x) }")
    proto.graph.node[0].attribute[0].ClearField("type")
    return save(proto, path)


def with_a_name_of_bytes(path: Path) -> Path:
    save(text_model("m (float[2] x) => (float[2] y) { z_ = Relu (x) y = Neg (z_) }"), path)
    path.write_bytes(path.read_bytes().replace(b"z_", b"z\xd0"))
    return path


def with_an_operator_of_bytes(path: Path) -> Path:
    nodes("y = Relu (x)")(path)
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Rel\xd0"))
    return path


def of_many_parts(path: Path) -> Path:
    """A node without content takes two bytes in a file."""
    path.write_bytes(b"\x3a" + b"\x80\x80\x80\x01" + b"\x0a\x00" * 2**20)
    return path


def of_too_many_parts(path: Path) -> Path:
    """Which take gigabytes where they are read."""
    path.write_bytes(b"\x3a" + b"\x80\x80\x80\x0a" + b"\x0a\x00" * (10 * 2**20))
    return path


BAD = {
    "name of bytes": (with_a_name_of_bytes, r"has a text that is no UTF-8, b'z\xd0'"),
    "operator of bytes": (with_an_operator_of_bytes, r"has a text that is no UTF-8, b'Rel\xd0'"),
    "many parts": (of_many_parts, "has more than 524288 parts, which no network needs"),
    "missing": (lambda path: path, "cannot be read: No such file"),
    "empty": (empty, "is empty"),
    "damaged": (damaged, "cannot be read"),
    "no model": (without_nodes, "holds no nodes"),
    "old opset": (of_opset(10), "has opset 10; export it with one from 11 to 23"),
    "new opset": (of_opset(24), "has opset 24"),
    "no opset": (without_opset, "states no version of the standard operators"),
    "cycle": (
        nodes("a = Add (x, b) b = Relu (a) y = Exp (b)"),
        "form a cycle, a nameless Add node -> a nameless Relu node -> a nameless Add node",
    ),
    "undefined": (nodes("y = Add (x, b)"), "uses 'b', which nothing makes"),
    "undefined output": (nodes("a = Relu (x)"), "nothing makes the output 'y'"),
    "double": (nodes("y = Exp (x) y = Neg (x)"), "makes 'y' a second time"),
    "cycle in a branch": (
        nodes(
            "c = Constant <value_int = 1> () d = Cast <to = 9> (c) y = If (d) <"
            "then_branch = t () => (a) { a = Add (x, b) b = Relu (a) }, else_branch = e () => (a) { a = Neg (x) }>"
        ),
        "form a cycle",
    ),
    "weights missing": (without_weights, "put the file of weights that was written with the model beside it"),
    "weights cut": (cut_weights, "1000 bytes"),
    "weights elsewhere": (escaping_weights, "external weights of ONNX model"),
    "long name": (nodes(f"y = Add (x, {'b' * 100_000})"), "bb…bb"),
    "unknown type": (of_type_99, "tensor 'w' cannot be read: ValueError: ONNX has no type 99"),
    "cast to nothing": (nodes("y = Cast <to = 99> (x)"), "a nameless Cast node has the attribute to = 99; it must be"),
    "attribute without a type": (without_attribute_type, "ONNX's checker refuses the model"),
}


def test_a_file_that_takes_gigabytes_is_refused(tmp_path: Path) -> None:
    """In a process of its own: one that has freed gigabytes may take them again."""
    path = of_too_many_parts(tmp_path / "model.onnx")
    with BoundedProcess(Limits(seconds=120, bytes=8 * 10**9)) as process, pytest.raises(CallFailed) as refusal:
        process.call(read_model, path)
    assert f"{path} cannot be read: it takes more memory than a file of its size should" in str(refusal.value)


@pytest.mark.parametrize(("write", "message"), BAD.values(), ids=BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_model(write(tmp_path / "model.onnx"))
    assert message in str(refusal.value)
    assert "model.onnx" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1000


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a bundle"):
        model_file.model_path(tmp_path)


@pytest.mark.parametrize("write", [lambda path: save(model(), path), external], ids=["inside", "external"])
def test_models_are_read_with_their_weights(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    [weight] = read_model(write(tmp_path / "model.onnx")).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weight), WEIGHT)


def test_operators_that_onnx_lacks_are_let_through(tmp_path: Path) -> None:
    """TensorRT finds a plugin by the operator's name, and many a model writes such nodes like standard ones."""
    read = read_model(nodes("y = SomebodysPlugin (x)")(tmp_path / "model.onnx"))
    assert [(node.domain, node.op_type) for node in read.graph.node] == [("", "SomebodysPlugin")]


@pytest.mark.parametrize(
    "leave_out",
    [
        lambda graph: graph.ClearField("name"),
        lambda graph: graph.output[0].ClearField("type"),
        lambda graph: graph.output[0].type.tensor_type.ClearField("shape"),
        lambda graph: graph.input[0].type.tensor_type.ClearField("shape"),
    ],
    ids=["name", "type of an output", "shape of an output", "shape of an input"],
)
def test_what_nothing_depends_on_may_be_left_out(tmp_path: Path, leave_out: Callable[[GraphProto], None]) -> None:
    """ONNX's checker asks for it, ONNX Runtime and exporters do not."""
    proto = model()
    leave_out(proto.graph)
    read = read_model(save(proto, tmp_path / "model.onnx"))
    assert read == proto
    write_model(read, tmp_path / "out.onnx")


def test_nodes_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    read = read_model(nodes("y = Exp (a) a = Relu (x)")(tmp_path / "model.onnx"))
    assert [node.op_type for node in read.graph.node] == ["Relu", "Exp"]


def test_dimensions_of_minus_one_are_open(tmp_path: Path) -> None:
    """Older exporters write them so, in branches and bodies too."""
    proto = text_model("m (float[N, 3] x) => (float[M, 3] y) { y = Relu (x) }")
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    read = read_model(save(proto, tmp_path / "model.onnx"))
    for value in (read.graph.input[0], read.graph.output[0]):
        unknown, known = value.type.tensor_type.shape.dim
        assert unknown.WhichOneof("value") is None
        assert known.dim_value == 3


def test_the_long_name_of_the_standard_domain_is_understood(tmp_path: Path) -> None:
    proto = model()
    proto.opset_import[0].domain = proto.graph.node[0].domain = "ai.onnx"
    read = read_model(save(proto, tmp_path / "model.onnx"))
    assert read.graph.node[0].domain == ""
    assert read == model()


def test_small_models_are_one_file(tmp_path: Path) -> None:
    [path] = write_model(model(), tmp_path / "new" / "model.onnx")
    assert onnx.load(path) == model()


def test_large_weights_lie_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "EXTERNAL_FROM", 1000)
    path, beside = write_model(model(), tmp_path / "model.onnx")
    assert beside.name == "model.onnx.data"
    onnx.checker.check_model(path)
    inputs = {"x": np.ones(600, np.float32)}
    np.testing.assert_array_equal(outputs_of(read_model(path), inputs)["y"], WEIGHT + 1)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "EXTERNAL_FROM", 1000)

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_model(model(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory; name a file in it"):
        write_model(model(), tmp_path)
