"""`uniad-toolkit build` with TensorRT for RTX, for GPUs that are not here: one node, in a bundle and on its own."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from custom_ops.rotate.op import ROTATE
from tests.tensorrt.cases import CASES, write_model
from toolkit.bundle import Bundle
from toolkit.cli.main import run
from toolkit.engines.tensorrt import worker
from toolkit.engines.tensorrt.library import Target, load_tensorrt, version_numbers
from toolkit.engines.tensorrt.packing import unpack
from toolkit.engines.tensorrt.request import BuildRequest
from toolkit.engines.tensorrt.rtx import BINDINGS, LIBRARIES
from toolkit.engines.tensorrt.settings import BuildSettings
from toolkit.engines.tensorrt.sidecar import EngineTensor, RequiredPlugin, Sidecar
from toolkit.errors import InputError
from toolkit.graph.steps import NOTHING_TO_COMPARE
from toolkit.storage.files import sha256_file

CASE = CASES["Rotate"]
needs_tensorrt_rtx = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in (BINDINGS, LIBRARIES)),
    reason="TensorRT for RTX is not installed; install it with: pip install 'uniad-toolkit[tensorrt-rtx]'",
)


@pytest.fixture
def written(bundle: Bundle) -> Bundle:
    """A bundle on disk whose model is one node with its local function."""
    model = onnx.load(write_model(bundle.path / "model.onnx", CASE))
    model.functions.append(ROTATE.function(CASE.attributes))
    onnx.save(model, bundle.path / "model.onnx")
    digests = {"model.onnx": sha256_file(bundle.path / "model.onnx")}
    replace(bundle, files={"functional": "model.onnx"}, sha256=digests).write()
    return Bundle.read(bundle.path)


@pytest.mark.slow
@needs_tensorrt_rtx
def test_convert_builds_in_the_same_step(written: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    converted = replace(written, provenance={"left_out": {}})
    monkeypatch.setattr("toolkit.conversion.convert.convert", lambda *_, **__: converted)
    options = ["-o", str(written.path), "--build", "tensorrt-rtx", "--precision", "fp16"]
    assert run(["convert", "model.pth", *options]) == 0
    (record,) = Bundle.read(written.path).engines
    assert (record.file, record.precision) == ("tensorrt-rtx-fp16.engine", "fp16")


@pytest.mark.slow
@needs_tensorrt_rtx
def test_bundle(written: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """One engine for several GPUs, with a plugin in place of the function; its sidecar, its log and its record."""
    assert run(["build", str(written.path), "--target", "tensorrt-rtx", "--compute-capability", "8.6,12.0"]) == 0
    engine = written.path / "tensorrt-rtx-fp32.engine"
    sidecar = Sidecar.read(engine)
    sidecar.require_engine(engine)
    assert sidecar.onnx == written.digests("functional")
    assert sidecar.capabilities == ("8.6", "12.0")
    assert sidecar.checks == (NOTHING_TO_COMPARE,)
    assert sidecar.layers == {"PLUGIN_V3": 1}
    assert sidecar.plugins == (RequiredPlugin("Rotate", "custom_ops.plugin", 1),)
    assert sidecar.tensors == (
        EngineTensor("image", "input", "float32", (5, 5, 6)),
        EngineTensor("angle", "input", "float32", (1,)),
        EngineTensor("center", "input", "float32", (2,)),
        EngineTensor("output", "output", "float32", (5, 5, 6)),
    )
    (record,) = Bundle.read(written.path).engines
    assert (record.file, record.sha256, record.version) == (engine.name, sidecar.sha256, sidecar.version)
    assert "[INFO] Successfully created plugin: Rotate" in (written.path / f"{engine.name}.log").read_text()
    assert not list(written.path.glob(".*"))
    printed = capsys.readouterr().out
    assert NOTHING_TO_COMPARE in printed
    assert "engine of 0.0 MiB for 8.6, 12.0" in printed
    assert (
        f"tensorrt_rtx --onnx=MODEL.onnx --saveEngine={engine} --skipInference --computeCapabilities=86,120" in printed
    )


@pytest.mark.slow
@needs_tensorrt_rtx
def test_packed(written: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """The engine within is the one that TensorRT made; the bundle records the file."""
    options = ["--target", "tensorrt-rtx", "--compute-capability", "8.9", "--pack"]
    assert run(["build", str(written.path), *options]) == 0
    engine = written.path / "tensorrt-rtx-fp32.engine"
    sidecar = Sidecar.read(engine)
    sidecar.require_engine(engine)
    assert sidecar.unpacked is not None
    assert sidecar.bytes < sidecar.unpacked
    assert b"Rotate" in unpack(engine.read_bytes(), sidecar.unpacked, engine)
    (record,) = Bundle.read(written.path).engines
    assert record.sha256 == sidecar.sha256
    assert f", packed from {sidecar.unpacked / 2**20:.1f}, for 8.9" in capsys.readouterr().out


@pytest.mark.slow
@needs_tensorrt_rtx
def test_model_that_the_build_would_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its custom op computes something else than the toolkit's: there is no engine."""
    model = onnx.load(write_model(tmp_path / "m.onnx", CASE))
    text = "Rotate (image, angle, center) => (output) { output = Neg (image) }"
    model.functions.append(onnx.parser.parse_function(f'<domain: "uniad", opset_import: ["" : 18]> {text}'))
    onnx.save(model, tmp_path / "m.onnx")
    assert run(["build", str(tmp_path / "m.onnx"), "--target", "tensorrt-rtx"]) == 1
    message = "exchanging the functions behind custom ops breaks the model: output 'output' differs by "
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.engine*"))


@pytest.mark.slow
@needs_tensorrt_rtx
def test_model_with_open_sizes_elsewhere(written: Bundle, tmp_path: Path) -> None:
    """The functions of standard operators serve too; an engine outside the bundle's folder is not recorded there."""
    model = write_model(tmp_path / "open.onnx", CASE, dynamic=True)
    line = f"build {model} --target tensorrt-rtx --custom-ops function --profile image:1x5x6:5x5x6:9x5x6"
    line += f" --workspace 64 --opt-level 1 --keep-model {tmp_path / 'kept.onnx'} -o {tmp_path / 'm.engine'}"
    assert run(line.split()) == 0
    sidecar = Sidecar.read(tmp_path / "m.engine")
    assert sidecar.plugins == ()
    assert "PLUGIN_V3" not in sidecar.layers
    assert sidecar.tensors[0].shape == (-1, 5, 6)
    assert len(onnx.load(tmp_path / "kept.onnx").functions) == 1
    assert Bundle.read(written.path).engines == ()


@pytest.mark.slow
@needs_tensorrt_rtx
def test_model_that_tensorrt_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, the log, and nothing else."""
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (2, 3))
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, (2, "n"))
    node = onnx.helper.make_node("NonZero", ["x"], ["y"], name="head/NonZero")
    graph = onnx.helper.make_graph([node], "one_node", [x], [y])
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 18)]), path)
    assert run(["build", str(path), "--target", "tensorrt-rtx"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"error: TensorRT for RTX lacks 1 of the nodes of {path}: head: NonZero (first 'head/NonZero')"
    )
    assert {file.name for file in tmp_path.iterdir()} <= {"m.onnx", "m.tensorrt-rtx-fp32.engine.log"}


def test_bundle_that_was_edited(written: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    written.onnx.write_bytes(b"other")
    assert run(["build", str(written.path), "--target", "tensorrt-rtx"]) == 2
    assert "model.onnx is not the file that the conversion wrote; convert again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-o {bundle}/model.onnx", "must end in .engine, by which engines are known"),
        ("--keep-model model.pth", "--keep-model model.pth must end in .onnx, by which models are known"),
        ("--keep-model {bundle}/model.onnx", "model.onnx is an input of this command; choose another output"),
        ("--profile image:1:2", "is not NAME:MIN:OPT:MAX"),
        ("--custom-ops embedded", "TensorRT for RTX takes no embedded kernels"),
    ],
)
def test_options_that_cannot_be_followed(
    option: str, message: str, written: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = written.onnx.read_bytes()
    line = f"build {written.path} --target tensorrt-rtx {option.format(bundle=written.path)}"
    assert run(line.split()) == 2
    assert message in capsys.readouterr().err
    assert written.onnx.read_bytes() == before


def test_session_without_a_gpu(written: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to install."""
    if importlib.util.find_spec("cupy"):
        pytest.skip("this machine may have a GPU")
    assert run(["verify", str(written.path), "--sessions", "tensorrt,onnxruntime"]) == 2
    assert "needs CuPy; install" in capsys.readouterr().err


def test_tensorrt_needs_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "compute_capability", lambda: None)
    request = BuildRequest(tmp_path / "m.onnx", tmp_path / "m.engine", BuildSettings(Target.TENSORRT))
    with pytest.raises(InputError, match=r"TensorRT builds on the GPU .*; build with --target tensorrt-rtx, or on"):
        worker.build(request, tmp_path, lambda phases: None)


def test_tensorrt_that_is_not_installed() -> None:
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed")
    with pytest.raises(
        InputError, match=r"TensorRT cannot be loaded: .*install it.* with: pip install 'uniad-toolkit\[tensorrt\]'"
    ):
        load_tensorrt()


def test_versions_compare_as_numbers() -> None:
    assert version_numbers("10.9.0.34") < version_numbers("10.12.0") < version_numbers("11.4.0.106")
