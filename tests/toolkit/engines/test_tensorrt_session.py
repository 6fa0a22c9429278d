"""A TensorRT session over doubles of TensorRT and CuPy: state, graphs, plugins, and how it fails."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests.tensorrt.engine_double import CUDARuntimeError, Device, Stream, double_cupy, double_tensorrt, in_numpy
from toolkit.bundle import Bundle
from toolkit.engines.tensorrt import gpu as gpu_driver
from toolkit.engines.tensorrt import session
from toolkit.engines.tensorrt.packing import pack
from toolkit.engines.tensorrt.registration import choose_engine, register_engine
from toolkit.engines.tensorrt.session import TensorRTSession
from toolkit.engines.tensorrt.sidecar import EngineTensor, RequiredPlugin, Sidecar
from toolkit.engines.torch import TorchSession
from toolkit.errors import CheckFailed, InputError
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.storage.files import sha256_file

ENGINE = "tiny.engine"
PLUGINS = PluginManager.load(builtin=["custom_ops.plugin"])


@pytest.fixture
def device(bundle: Bundle, network: Network) -> Device:
    """A GPU whose engine computes what the tiny network computes."""

    def compute(inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        outputs = network({name: torch.from_numpy(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return Device(in_numpy(tensors(bundle), compute))


def tensors(bundle: Bundle) -> list[EngineTensor]:
    dimensions = bundle.config.dimensions()
    inputs = [("input", spec) for spec in (*bundle.frame_inputs, *bundle.state_inputs)]
    outputs = [("output", spec) for spec in bundle.results]
    return [EngineTensor(s.name, mode, s.dtype, s.resolve(dimensions)) for mode, s in (*inputs, *outputs)]


@pytest.fixture
def built(bundle: Bundle) -> Bundle:
    """The tiny bundle on disk, with an engine that needs the plugins of two custom ops."""
    (bundle.path / "model.onnx").write_bytes(b"model")
    (bundle.path / ENGINE).write_bytes(b"engine")
    files = {"functional": "model.onnx"}
    written = replace(bundle, files=files, sha256={"model.onnx": sha256_file(bundle.path / "model.onnx")})
    written.write()
    sidecar = Sidecar(
        sha256=sha256_file(bundle.path / ENGINE),
        bytes=6,
        onnx=written.digests("functional"),
        target="tensorrt-rtx",
        version="1.2.3",
        capabilities=("8.6", "8.9"),
        precision="fp32",
        custom_ops="plugin",
        tensors=tuple(tensors(bundle)),
        plugins=(RequiredPlugin("Rotate", "custom_ops.plugin", 1), RequiredPlugin("Inverse", "custom_ops.plugin", 1)),
        layers={"PLUGIN_V3": 2},
        seconds=1.0,
        peak_mib=1,
        toolkit="uniad-toolkit 0.1.0",
    )
    sidecar.write(bundle.path / ENGINE)
    assert register_engine(bundle.path, bundle.path / ENGINE, sidecar)
    return Bundle.read(bundle.path)


@pytest.fixture
def gpu(device: Device, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A machine with a GPU of compute capability 8.9, CuPy, and TensorRT for RTX 1.2.3, which is returned."""
    trt = double_tensorrt(device)
    monkeypatch.setattr(session, "load_cupy", double_cupy)
    monkeypatch.setattr(session, "compute_capability", lambda: "8.9")
    monkeypatch.setattr(session, "choose_engine", functools.partial(choose_engine, load=lambda target: trt))
    return trt


def open_session(bundle: Bundle) -> TensorRTSession:
    return TensorRTSession.of_bundle(bundle, PLUGINS)


@pytest.mark.usefixtures("gpu")
def test_it_makes_the_decisions_of_the_torch_session(
    built: Bundle, network: Network, drive: list[dict[str, np.ndarray]]
) -> None:
    """Over a drive of two scenes with state fed back, twice, so that every frame runs from a graph at last."""
    tested, reference = (TemporalRunner(built, s) for s in (open_session(built), TorchSession(network)))
    for frame in [*drive, *drive]:
        expected, actual = reference.step(frame), tested.step(frame)
        assert actual.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(actual[name], expected[name], rtol=1e-6)


@pytest.mark.usefixtures("gpu")
def test_plugins_are_registered_before_the_engine_is_read(built: Bundle, device: Device) -> None:
    open_session(built)
    assert device.calls == [
        "register_creator Rotate",
        "register_creator Inverse",
        "deserialize_cuda_engine",
        "create_execution_context",
    ]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("packed", [False, True])
def test_tensorrt_gets_the_engine_unpacked(packed: bool, built: Bundle, device: Device) -> None:
    engine = built.path / ENGINE
    if packed:
        engine.write_bytes(pack(b"engine"))
        sidecar = replace(
            Sidecar.read(engine), sha256=sha256_file(engine), bytes=engine.stat().st_size, unpacked=len(b"engine")
        )
        sidecar.write(engine)
        assert register_engine(built.path, engine, sidecar)
    open_session(Bundle.read(built.path))
    assert device.loaded == b"engine"


@pytest.mark.usefixtures("gpu")
def test_state_is_read_where_it_was_written(built: Bundle, drive: list[dict[str, np.ndarray]]) -> None:
    """The state that was an output goes on without a copy; the one that was a frame input is copied on the GPU."""
    opened = open_session(built)
    zeros = {spec.name: spec.zeros(built.config.dimensions()) for spec in built.state_inputs}
    inputs = {name: opened.upload(array) for name, array in (drive[0] | zeros).items()}
    first = opened.run(inputs)
    sources = opened._buffers.next_frame(inputs | {"prev_driven": first["driven"]})
    assert sources["prev_driven"] is first["driven"]
    assert sources["prev_l2g_translation"] is opened._buffers.inputs["prev_l2g_translation"]


@pytest.mark.usefixtures("gpu")
def test_results_stay_until_the_second_next_frame(built: Bundle, drive: list[dict[str, np.ndarray]]) -> None:
    runner = TemporalRunner(built, open_session(built))
    kept = []
    for frame in drive[:2]:
        runner.step(frame)
        assert runner._state is not None
        kept.append((runner._state["prev_driven"], runner._state["prev_driven"].item()))
    assert [tensor.item() for tensor, _ in kept] == [value for _, value in kept] == [0.0, 5.0]


@pytest.mark.usefixtures("gpu")
def test_frames_run_from_graphs(built: Bundle, device: Device, drive: list[dict[str, np.ndarray]]) -> None:
    """TensorRT is asked until each of the two sets of buffers has been captured, then no more."""
    runner = TemporalRunner(built, open_session(built))
    asked = []
    for frame in drive * 3:
        before = device.calls.count("execute_async_v3")
        runner.step(frame)
        asked.append(device.calls.count("execute_async_v3") - before)
    # The first frame has zeros for its state, which no later one has.
    assert asked == [1, 1, 1, 1, 1] + [0] * 7


@pytest.mark.usefixtures("gpu")
def test_engine_that_cannot_be_captured(built: Bundle, network: Network, drive: list[dict[str, np.ndarray]]) -> None:
    """It is asked for every frame."""
    tested, reference = (TemporalRunner(built, s) for s in (open_session(built), TorchSession(network)))
    Stream.last.uncapturable = True
    for frame in drive * 2:
        np.testing.assert_allclose(tested.step(frame)["plan"], reference.step(frame)["plan"], rtol=1e-6)


@pytest.mark.usefixtures("gpu")
def test_values_that_are_not_finite_are_seen_on_the_gpu(built: Bundle) -> None:
    opened = open_session(built)
    sound, unsound = opened.upload(np.ones(3, np.float32)), opened.upload(np.array([np.nan, 1], np.float32))
    assert opened.finite([])
    assert opened.finite([sound, sound])
    assert not opened.finite([sound, unsound])


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("deserialize_cuda_engine", r"TensorRT cannot load .*tiny\.engine: Error Code 1: Cuda Runtime"),
        ("create_execution_context", r"TensorRT cannot prepare .*tiny\.engine to run: Error Code 1: Cuda Runtime"),
        ("set_tensor_address", r"TensorRT does not take a buffer for 'l2g_rotation': Error Code 1: Cuda Runtime"),
        ("execute_async_v3", r"TensorRT cannot run the engine: Error Code 1: Cuda Runtime"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_failure_comes_with_tensorrts_own_words(
    failing: str, message: str, built: Bundle, device: Device, drive: list[dict[str, np.ndarray]]
) -> None:
    device.failing = failing
    with pytest.raises(CheckFailed, match=message):
        TemporalRunner(built, open_session(built)).step(drive[0])


@pytest.mark.usefixtures("gpu")
def test_failure_of_the_gpu(built: Bundle, device: Device, drive: list[dict[str, np.ndarray]]) -> None:
    def crash(bound: Mapping[str, int], stream: int) -> None:
        raise CUDARuntimeError("cudaErrorIllegalAddress")

    device.enqueue = crash
    with pytest.raises(
        CheckFailed, match="the GPU cannot go on: CUDARuntimeError: cudaErrorIllegalAddress; TensorRT g"
    ):
        TemporalRunner(built, open_session(built)).step(drive[0])


def alter(bundle: Bundle, **changes: Any) -> None:
    replace(Sidecar.read(bundle.path / ENGINE), **changes).write(bundle.path / ENGINE)


def drop_engines(bundle: Bundle) -> None:
    replace(bundle, engines=()).write()


REFUSALS: dict[str, tuple[Any, str]] = {
    "no engine": (drop_engines, r"has no engine; build one here: uniad-toolkit build .* --target tensorrt"),
    "engine is gone": (
        lambda bundle: (bundle.path / ENGINE).unlink(),
        r"has no engine that runs here; tiny\.engine: the file is missing; or build one here",
    ),
    "no sidecar": (
        lambda bundle: (bundle.path / f"{ENGINE}.json").unlink(),
        r"tiny\.engine has no sidecar tiny\.engine\.json; copy both files, or build the engine again",
    ),
    "other engine": (
        lambda bundle: (bundle.path / ENGINE).write_bytes(b"other"),
        r"tiny\.engine is not the engine that its sidecar describes; copy both again, or build again",
    ),
    "engine and sidecar of another build": (
        lambda bundle: alter(bundle, sha256="0" * 64),
        r"tiny\.engine is not the engine that the bundle records; build it again",
    ),
    "other model": (
        lambda bundle: alter(bundle, onnx={"model.onnx": "0" * 64}),
        r"was built from another model than the one in .*; build it again: uniad-toolkit build .* --precision fp32",
    ),
    "other tensors": (
        lambda bundle: alter(bundle, tensors=(EngineTensor("plan", "output", "float32", (-1, 2)),)),
        r"output 'plan' of .*tiny\.engine is not the bundle's; build the engine again",
    ),
    "plugin of a file": (
        lambda bundle: alter(bundle, plugins=(RequiredPlugin("Mine", "my_op.py", 1),)),
        r"needs the plugin of the custom op 'Mine', of my_op\.py; pass --plugin my_op\.py",
    ),
    "plugin of a package": (
        lambda bundle: alter(bundle, plugins=(RequiredPlugin("Mine", "my_ops", 1),)),
        r"needs the plugin of the custom op 'Mine', of my_ops; install the package with my_ops, or do not disable it",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.usefixtures("gpu")
def test_refused_before_tensorrt_reads_it(case: str, built: Bundle, device: Device) -> None:
    change, message = REFUSALS[case]
    change(built)
    with pytest.raises(InputError, match=message):
        open_session(Bundle.read(built.path))
    assert "deserialize_cuda_engine" not in device.calls


def test_engine_for_other_gpus(built: Bundle, gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "compute_capability", lambda: "9.0")
    with pytest.raises(InputError, match=r"tiny\.engine: built for compute capability 8\.6, 8\.9, and this GPU has 9"):
        open_session(built)


def test_engine_of_another_version(built: Bundle, gpu: ModuleType) -> None:
    vars(gpu)["__version__"] = "1.3"
    with pytest.raises(InputError, match=r"tiny\.engine: built by TensorRT for RTX 1\.2\.3, and 1\.3 is installed"):
        open_session(built)


def test_machine_without_a_gpu(built: Bundle, gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "compute_capability", lambda: None)
    with pytest.raises(InputError, match="the tensorrt session needs an NVIDIA GPU and its driver"):
        open_session(built)


def test_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_driver, "DRIVER", "no_such_library.so")
    assert gpu_driver.compute_capability() is None


@pytest.mark.usefixtures("gpu")
def test_earlier_engine_serves_where_the_latest_does_not(built: Bundle) -> None:
    latest = replace(built.engines[0], file="other.engine", capabilities=("12.0",))
    (built.path / latest.file).touch()
    built.with_engine(latest).write()
    assert isinstance(open_session(Bundle.read(built.path)), TensorRTSession)
