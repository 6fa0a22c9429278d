"""What the benchmarks count on a GPU, on functions and a network of toy size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch import Tensor

from benchmarks import gpu_products
from benchmarks.gpu_measurement import measure
from benchmarks.gpu_network import bundle_of
from benchmarks.gpu_work import ProfiledSession
from tests.toolkit.toy_bundle import CONFIG
from toolkit.benchmarking.timed import Part
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu.frame_graph import FrameGraph
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.torch import TorchSession
from toolkit.network import Network
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.wiring import join

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def network() -> Network:
    """The toolkit's at toy size, with weights that are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(join(PluginManager.load().submodules(), CONFIG))


class ThreeKernels(TorchSession):
    """Launches three kernels and a copy, one by one or as a graph."""

    def __init__(self, graph: bool) -> None:
        self._run = FrameGraph(three_kernels, {"x": torch.ones(1000, device="cuda")}) if graph else three_kernels

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self._run(inputs)


def three_kernels(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    x = inputs["x"].sin().cos().exp()
    return {"y": x, "z": torch.empty_like(x).copy_(x)}


@pytest.mark.parametrize("graph", [False, True])
def test_kernels_are_counted(graph: bool) -> None:
    """In a graph too; that one copies its input as well, and may copy by kernels."""
    session = ProfiledSession(ThreeKernels(graph))
    for _ in range(2):
        session.run({"x": torch.ones(1000, device="cuda")})
    work = session.works[-1]
    if graph:
        assert work.kernels >= 3
        assert work.kernels + work.copies == 5
    else:
        assert (work.kernels, work.copies) == (3, 1)
    assert 0 < work.busy_milliseconds < 1


def test_sessions_are_measured(network: Network) -> None:
    """The graph launches faster than the eager network; what is reported is the same."""
    drive = probe_frames(CONFIG, 6, scene_change=3)
    eager, cuda = (
        measure(opened, bundle_of(network), drive, 10, 3, Precision.FP32)
        for opened in (partial(TorchSession, network, "cuda"), partial(CudaGraphSession.of_network, network))
    )
    assert (eager.session, cuda.session) == ("eager", "cuda")
    assert cuda.percentiles(Part.MODEL)["p50"] < eager.percentiles(Part.MODEL)["p50"]
    assert cuda.work.busy_milliseconds > 0
    assert 0 < cuda.work.kernels <= eager.work.kernels
    assert cuda.first_frame_seconds > cuda.percentiles(Part.MODEL)["p99"] / 1e3
    assert len(cuda.objects) == len(eager.objects) == 10
    assert cuda.transfers["p50"] > 0
    assert cuda.used_bytes > 0


def test_products_are_timed() -> None:
    """In every precision, ours and the library's."""
    figures = list(gpu_products.measure("linear", gpu_products.Linear(300, 256, 256)))
    assert [each.precision for each in figures] == list(Precision)
    assert all(each.library > 0 and each.ours > 0 for each in figures)
    assert max(figures[0].error, figures[0].library_error) < 2e-6
