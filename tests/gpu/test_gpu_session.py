"""The GPU session equals what it captures to the last bit, and never waits but for its download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from toolkit.bundle import Bundle
from toolkit.config.model import ChannelOrder, ImageConfig, ModelConfig
from toolkit.data.pictures import IMAGE, PICTURES
from toolkit.data.probe import probe_frames
from toolkit.demo.pseudo_weights import pseudo_motion_anchors, pseudo_trained_weights
from toolkit.engines.gpu.compiled.network import NetworkFunction, compile_network
from toolkit.engines.gpu.compiled.tf32 import tf32
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.engines.gpu.preprocess import CameraImages
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.gpu.transfer import ALL_ROWS, SMALL_BYTES, RowBlocks, Upload
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.repairs import Repairs
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.wiring import join

Arrays = dict[str, np.ndarray]
CONFIG = ModelConfig()


@pytest.fixture(scope="module")
def network() -> Network:
    """The toolkit's own, on the GPU."""
    network = Network(join(PluginManager.load().submodules(), CONFIG))
    anchors = {"motion_head.motion_anchors": torch.from_numpy(pseudo_motion_anchors(CONFIG))}
    network.load_weights(pseudo_trained_weights(network) | anchors)
    return network.to("cuda")


@pytest.fixture(scope="module")
def bundle(network: Network) -> Bundle:
    return Bundle.of_graph(
        Path(), network.graph, submodules=(), custom_ops=(), files={}, sha256={}, provenance={}, parity={}
    )


@pytest.fixture(scope="module")
def function(network: Network) -> NetworkFunction:
    """With our kernels, but without a compiler's, which would take long."""
    return compile_network(network, Precision.FP32, inductor=False)


class LaunchedSession(TorchSession):
    """Launches kernel after kernel of a function."""

    def __init__(self, function: NetworkFunction, network: Network) -> None:
        super().__init__(network, "cuda")
        self._function = function

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return self._function(inputs)


@pytest.fixture
def session(function: NetworkFunction, network: Network) -> CudaGraphSession:
    return CudaGraphSession(function, network.graph)


@pytest.fixture(scope="module")
def drive() -> list[Arrays]:
    """A new scene begins with the fourth frame."""
    return probe_frames(CONFIG, 6, scene_change=3)


@pytest.fixture(autouse=True)
def _without_tf32() -> Iterator[None]:
    with tf32(False):
        yield


def results(bundle: Bundle, runner: TemporalRunner, frames: Sequence[Mapping[str, np.ndarray]]) -> list[Arrays]:
    """Everything that the network gives, state included."""
    return [runner.step(frame, [spec.name for spec in bundle.results]) for frame in frames]


def assert_equal(actual: Sequence[Arrays], expected: Sequence[Arrays]) -> None:
    for number, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        for name, array in theirs.items():
            np.testing.assert_array_equal(ours[name], array, err_msg=f"frame {number}: {name}")


def test_a_sequence_equals_one_launched_kernel_by_kernel(
    session: CudaGraphSession, function: NetworkFunction, network: Network, bundle: Bundle, drive: list[Arrays]
) -> None:
    expected = results(bundle, TemporalRunner(bundle, LaunchedSession(function, network)), drive)
    assert_equal(results(bundle, TemporalRunner(bundle, session), drive), expected)
    assert len(set(expected[2]["box_ids"][: expected[2]["box_count"].item()])) > 1


def test_scenes_at_once_equal_one_alone(session: CudaGraphSession, bundle: Bundle, drive: list[Arrays]) -> None:
    """Each in a thread, by graphs that run at the same time."""
    expected = results(bundle, TemporalRunner(bundle, session), drive)
    beside = session.beside(3)
    with ThreadPoolExecutor(len(beside)) as pool:
        for _ in range(3):
            runs = [pool.submit(results, bundle, TemporalRunner(bundle, each), drive) for each in beside]
            for run in runs:
                assert_equal(run.result(), expected)


def test_a_second_sequence_starts_from_zeros(session: CudaGraphSession, bundle: Bundle, drive: list[Arrays]) -> None:
    first = results(bundle, TemporalRunner(bundle, session), drive)
    assert_equal(results(bundle, TemporalRunner(bundle, session), drive), first)


def test_pictures_give_what_prepared_images_give(
    session: CudaGraphSession, bundle: Bundle, drive: list[Arrays]
) -> None:
    """In the session's memory, and in any other."""
    prepare = CameraImages(CONFIG.image)
    pictures = [pixels(CONFIG.image, number) for number in range(len(drive))]
    prepared = [frame | {IMAGE: prepare(torch.from_numpy(p)).numpy()} for frame, p in zip(drive, pictures, strict=True)]
    expected = results(bundle, TemporalRunner(bundle, session), prepared)
    for in_memory in (True, False):
        runner = TemporalRunner(bundle, session)
        actual = []
        for frame, given in zip(drive, pictures, strict=True):
            taken = filled(session, given) if in_memory else given
            actual += results(bundle, runner, [without_image(frame) | {PICTURES: taken}])
        assert_equal(actual, expected)


def test_an_input_that_is_given_on_becomes_state_as_it_was() -> None:
    """As it is or as a view. Tensors so large are copied piece by piece: the input has its next values before."""
    values = [torch.full((2**25,), number, dtype=torch.uint8, device="cuda") for number in range(4)]

    def given_on(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        now = inputs["now"]
        return {"now": now, "view": now.view(2, -1), "seen": torch.stack((inputs["before"], inputs["viewed"].view(-1)))}

    graph = FrameGraph(given_on, {"now": values[0], "before": values[0], "viewed": values[0].view(2, -1)})
    outputs = graph({"now": values[0], "before": values[0], "viewed": values[0].view(2, -1)})
    for number, now in enumerate(values[1:]):
        outputs = graph({"now": now, "before": outputs["now"], "viewed": outputs["view"]})
        assert outputs["seen"].unique().tolist() == [number]


@pytest.mark.parametrize("order", ChannelOrder)
@pytest.mark.parametrize("scale", [0.25, 0.5, 0.3, 1.0])
def test_images_equal_those_of_the_cpu(scale: float, order: ChannelOrder) -> None:
    """Also out of a graph, for other pictures than it was captured with."""
    config = ImageConfig(scale=scale, channel_order=order)
    on_gpu, on_cpu = CameraImages(config).to("cuda"), CameraImages(config)
    first, second = (torch.from_numpy(pixels(config, seed)) for seed in range(2))
    with torch.inference_mode():
        graph = FrameGraph(lambda inputs: {IMAGE: on_gpu(inputs[PICTURES])}, {PICTURES: first.cuda()})
        for pictures in (first, second):
            images = graph({PICTURES: pictures.cuda()})[IMAGE]
            assert images.is_contiguous()
            torch.testing.assert_close(images.cpu(), on_cpu(pictures), rtol=0, atol=0 if scale != 0.3 else 2**-21)


@pytest.mark.parametrize("name", ["timestamp", "can_bus"])
def test_state_that_is_not_finite_is_repaired(
    name: str,
    session: CudaGraphSession,
    function: NetworkFunction,
    network: Network,
    bundle: Bundle,
    drive: list[Arrays],
) -> None:
    """As without a graph; a value that poisons itself alone, and one that poisons the BEV."""
    frames = [dict(frame) for frame in drive]
    frames[1][name] = np.full_like(frames[1][name], np.nan)
    expected, actual = (TemporalRunner(bundle, s) for s in (LaunchedSession(function, network), session))
    repairs: list[Repairs] = []
    for frame in frames:
        assert_equal(results(bundle, actual, [frame]), results(bundle, expected, [frame]))
        assert actual.repairs == expected.repairs
        repairs.append(actual.repairs)
    assert repairs[1].scene_reset
    assert not repairs[0]
    assert not any(repairs[2:])


def test_the_host_waits_for_the_download_alone(session: CudaGraphSession, bundle: Bundle, drive: list[Arrays]) -> None:
    """torch tells of every other wait: a copy from or to ordinary memory, a value that the host reads."""
    frames = [without_image(frame) for frame in drive]
    TemporalRunner(bundle, session).step(frames[0] | {PICTURES: filled(session, pixels(CONFIG.image, 0))})
    runner = TemporalRunner(bundle, session)  # another scene, whose state needs no upload either
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number, frame in enumerate(frames):
            runner.step(frame | {PICTURES: filled(session, pixels(CONFIG.image, number))})
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_pictures_come_from_page_locked_memory(session: CudaGraphSession) -> None:
    """Which is given out again once the frame is done. Rows that the resize does not read may stay behind."""
    camera_images = CameraImages(CONFIG.image).cuda()
    addresses = set()
    for number in range(6):
        memory = session.new_pictures()
        assert torch.from_numpy(memory.array).is_pinned()
        addresses.add(memory.array.ctypes.data)
        memory.array[:] = number
        for camera in range(number):  # what is not reported is taken as well
            memory.filled(camera)
        uploaded = session.upload_frame({PICTURES: memory.array, "command": np.array([number], np.int32)})
        images = session.prepare(uploaded[PICTURES])
        assert torch.equal(images, camera_images(torch.full_like(uploaded[PICTURES], number)))
        assert uploaded["command"].tolist() == [number]
    assert len(addresses) <= 3


def test_pictures_of_several_frames_wait_for_their_turn(session: CudaGraphSession) -> None:
    """As `run --helpers` decodes them ahead."""
    camera_images = CameraImages(CONFIG.image).cuda()
    memories = [session.new_pictures() for _ in range(4)]
    for number, memory in enumerate(memories):
        memory.array[:] = number
    for number, memory in enumerate(memories):
        for camera in range(len(memory.array)):
            memory.filled(camera)
        uploaded = session.upload_frame({PICTURES: memory.array})
        images = session.prepare(uploaded[PICTURES])
        assert torch.equal(images, camera_images(torch.full_like(uploaded[PICTURES], number)))


@pytest.mark.parametrize("rows", [RowBlocks(1, 2, 4), RowBlocks(0, 1, 3), ALL_ROWS])
def test_a_picture_leaves_gaps_between_its_rows(rows: RowBlocks) -> None:
    """Only what is needed is copied, from memory that is not given out again before that."""
    upload = Upload(torch.device("cuda"))
    for number in range(1, 30):
        memory = upload.pictures((2, 12, 1000, 3), rows)
        memory.array[:] = number
        memory.filled(0)
        copied = memory.tensor()
        del memory
        for start in range(rows.first, rows.first + rows.count):
            assert copied[:, start :: rows.every].unique().tolist() == [number]


def test_memory_is_held_while_it_is_read() -> None:
    """A copy that waits on its stream still finds the picture, however many pictures came after it."""
    upload, shape = Upload(torch.device("cuda")), (1, 1200, 1000, 3)
    copies = []
    with torch.cuda.stream(upload.stream):
        torch.cuda._sleep(200_000_000)  # a tenth of a second
    for number in range(1, 9):
        memory = upload.pictures(shape, RowBlocks(1, 2, 4))
        memory.array[:] = number
        copies.append(memory.tensor())
        del memory
    assert [copied[:, 1::4].unique().tolist() for copied in copies] == [[number] for number in range(1, 9)]


@pytest.mark.parametrize("count", [3, SMALL_BYTES])
def test_uploads_wait_for_their_turn(count: int) -> None:
    """Of any size, each in memory of its own until it is copied, however many come after it."""
    upload = Upload(torch.device("cuda"))
    for stream in (torch.cuda.current_stream(), upload.stream):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(100_000_000)
    uploaded = [upload.together({"values": np.full(count, n), "count": np.array([n], np.int32)}) for n in range(20)]
    assert [(each["values"].unique().tolist(), each["count"].item()) for each in uploaded] == [
        ([number], number) for number in range(20)
    ]


def pixels(config: ImageConfig, seed: int) -> np.ndarray:
    """Noise from every camera."""
    size = (len(config.cameras), config.source_height, config.source_width, 3)
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def filled(session: CudaGraphSession, pictures: np.ndarray) -> np.ndarray:
    """The session's memory, with these pictures in it."""
    memory = session.new_pictures()
    for camera, picture in enumerate(pictures):
        memory.array[camera] = picture
        memory.filled(camera)
    return memory.array


def without_image(frame: Arrays) -> Arrays:
    return {name: array for name, array in frame.items() if name != IMAGE}
