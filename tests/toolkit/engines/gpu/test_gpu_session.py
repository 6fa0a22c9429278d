"""The GPU session's own work, with the CPU as its device: a GPU adds only the graph and the streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.engines.gpu import session as gpu
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.engines.gpu.transfer import Download
from toolkit.engines.torch import TorchSession
from toolkit.errors import InputError
from toolkit.network import Network
from toolkit.runtime.repairs import Repairs
from toolkit.runtime.temporal_runner import TemporalRunner
from toolkit.wiring import join

Frames = list[dict[str, np.ndarray]]


class HostGraph:
    """Works as a CUDA graph does: from inputs of its own to outputs that the next call overwrites."""

    def __init__(
        self, function: Callable[[Mapping[str, Tensor]], dict[str, Tensor]], example: Mapping[str, Tensor]
    ) -> None:
        self._function = function
        self._outputs = {name: tensor.clone() for name, tensor in function(example).items()}

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        for name, tensor in self._function(own).items():
            self._outputs[name].copy_(tensor)
        return self._outputs


class HostUpload:
    """Uploads to nowhere."""

    def __init__(self, device: torch.device) -> None:
        assert device.type == "cpu"

    def together(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


@pytest.fixture
def session(network: Network, monkeypatch: pytest.MonkeyPatch) -> CudaGraphSession:
    """The tiny network's: it has a distance as state, and a pose that returns."""
    monkeypatch.setattr(gpu, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gpu, "require_gpu", lambda: None)
    monkeypatch.setattr(gpu, "FrameGraph", HostGraph)
    monkeypatch.setattr(gpu, "Upload", HostUpload)
    return CudaGraphSession(network, network.graph)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Download]:
    """Every one that was made, in order."""
    made: list[Download] = []

    def download(tensors: Mapping[str, Tensor], packed: Tensor) -> Download:
        made.append(Download(tensors, packed))
        return made[-1]

    monkeypatch.setattr(gpu, "Download", download)
    return made


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_the_session_says_so() -> None:
    with pytest.raises(InputError, match=r"needs a CUDA GPU.*use onnxruntime"):
        CudaGraphSession(dict, join((), ModelConfig()))


def test_results_are_the_networks(session: CudaGraphSession, network: Network, bundle: Bundle, drive: Frames) -> None:
    """Also when another scene starts, and in a second sequence."""
    for _ in range(2):
        expected, actual = (TemporalRunner(bundle, s) for s in (TorchSession(network), session))
        for frame in drive:
            wanted = expected.step(frame, ["plan", "driven", "moved"])
            for name, array in actual.step(frame, ["plan", "driven", "moved"]).items():
                np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_sessions_beside_it_have_their_own_results(
    session: CudaGraphSession, bundle: Bundle, drive: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them captured before it is given out; frames of scenes in turn do not meet."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    first, second = session.beside(2)
    assert first._graph is not second._graph
    alone = TemporalRunner(bundle, session).step(drive[0])
    runners = [TemporalRunner(bundle, each) for each in (first, second)]
    for frame in drive:
        one, other = (runner.step(frame)["plan"] for runner in runners)
        np.testing.assert_array_equal(one, other)
    for each in (first, second):
        np.testing.assert_array_equal(TemporalRunner(bundle, each).step(drive[0])["plan"], alone["plan"])


def test_results_of_a_frame_stay_valid(session: CudaGraphSession, bundle: Bundle, drive: Frames) -> None:
    runner = TemporalRunner(bundle, session)
    plans = [runner.step(frame)["plan"] for frame in drive]
    copies = [plan.copy() for plan in plans]
    runner.step(drive[1])
    np.testing.assert_array_equal(plans, copies)
    assert len({plan.tobytes() for plan in plans}) > 1


def test_a_frame_is_downloaded_once(
    session: CudaGraphSession, downloads: list[Download], bundle: Bundle, drive: Frames
) -> None:
    """Its results, the answer to whether its state is finite, and what state there is of one number."""
    runner = TemporalRunner(bundle, session)
    for frame in drive:
        runner.step(frame)
    assert len(downloads) == len(drive)
    assert all(vars(download)["arrays"].keys() == {"plan", "driven", gpu.LARGEST} for download in downloads)


def test_a_result_on_request_is_downloaded_when_it_is_named(
    session: CudaGraphSession, network: Network, downloads: list[Download], bundle: Bundle, drive: Frames
) -> None:
    """By itself: the download of the others stays small."""
    large = replace(bundle, results=tuple(replace(s, on_request=s.name == "plan") for s in bundle.results))
    graph = replace(network.graph, results=large.results)
    runner = TemporalRunner(large, CudaGraphSession(network, graph))
    given = runner.step(drive[0], ["plan"])
    np.testing.assert_array_equal(given["plan"], TemporalRunner(bundle, session).step(drive[0])["plan"])
    without, with_plan = downloads[-2:]
    assert "plan" not in without.arrays
    assert "plan" in with_plan.arrays


def test_state_that_is_not_finite_is_repaired(
    session: CudaGraphSession, network: Network, bundle: Bundle, drive: Frames
) -> None:
    drive[1]["l2g_translation"] = np.array([np.inf, 0, 0], np.float32)
    expected, actual = (TemporalRunner(bundle, s) for s in (TorchSession(network), session))
    repairs = []
    for frame in drive:
        wanted = expected.step(frame, ["driven"])["driven"]
        np.testing.assert_array_equal(actual.step(frame, ["driven"])["driven"], wanted)
        assert actual.repairs == expected.repairs
        repairs.append(actual.repairs)
    assert repairs[1] == Repairs(poisoned_states=("prev_l2g_translation", "prev_driven"))
    assert not any(repairs[2:])


def test_other_tensors_are_looked_at_as_well(session: CudaGraphSession) -> None:
    assert session.finite([])
    assert session.finite([torch.ones(2)])
    assert not session.finite([torch.ones(2), torch.tensor([torch.nan])])


@pytest.mark.usefixtures("session")
def test_a_network_without_state() -> None:
    stateless = CudaGraphSession(lambda inputs: {"plan": inputs["command"] + 1}, join((), ModelConfig()))
    outputs = stateless.run({"command": torch.tensor([1])})
    assert stateless.download(outputs["plan"]) == [2]
