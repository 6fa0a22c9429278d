"""`train --graphs`: what is recorded and replayed computes what calling it does. Here it runs anew, on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, distributed, nn

from plugins.tracking import matching
from tests.training.replaying import record_on_the_cpu
from toolkit.training.graphs import GraphCalls, NotRecorded, Recorded
from toolkit.training.spec import Function


class Layer(nn.Module):
    """A linear layer, one that is not always asked, and a frozen one."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.frozen = (nn.Linear(3, 3, dtype=torch.double) for _ in range(3))
        self.frozen.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()))


def doubled(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, Layer)
    layer.seen += 1
    return layer.frozen(layer.first(x)) * x.new_tensor([1.0, 2.0, 3.0]), x > 0


def other(layer: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor]:
    assert isinstance(layer, Layer)
    return (layer.other(x).relu() + layer.first(y),)


def gradients(layer: Layer) -> dict[str, Tensor | None]:
    found = {name: each.grad for name, each in layer.named_parameters()}
    layer.zero_grad()
    return found


def clip(calls: GraphCalls | None, layer: Layer, x: Tensor, *, further: bool) -> tuple[Tensor, ...]:
    """Three calls, the second of which reads the first, of the same function; and perhaps one of another."""

    def call(function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        return function(layer, *inputs) if calls is None else calls(function, layer, *inputs)

    if calls is not None:
        calls.begin()
    x = x.clone().requires_grad_()
    one, positive = call(doubled, x)
    two, _ = call(doubled, one.tanh())
    with torch.no_grad():
        three, _ = call(doubled, x)
        four, _ = call(doubled, x + 1)
    total = (two * three.tanh() + four).sum() + layer.first.weight.square().sum()
    if further:
        total = total + call(other, two, x)[0].square().sum()
    total.backward()
    assert x.grad is not None
    return total.detach(), positive, x.grad


@torch.enable_grad()
def test_calls_of_a_clip_have_each_their_own_memory_and_parameters_one_gradient() -> None:
    """Sizes, clips and calls change; parameters that no call concerns have no gradient."""
    torch.manual_seed(0)
    layer = Layer()
    calls = GraphCalls(record_on_the_cpu)
    for rows, further in ((4, False), (4, True), (2, True), (4, False), (4, True)):
        x = torch.randn(rows, 3, dtype=torch.double)
        for _ in range(2):  # gradients of two clips add up
            expected = clip(None, layer, x, further=further)
        wanted = gradients(layer)
        for _ in range(2):
            found = clip(calls, layer, x, further=further)
        for one, another in zip(found, expected, strict=True):
            torch.testing.assert_close(one, another, rtol=1e-12, atol=1e-12)
        for name, gradient in gradients(layer).items():
            if wanted[name] is None:
                assert gradient is None, name
            else:
                torch.testing.assert_close(gradient, wanted[name], rtol=1e-12, atol=1e-12)
    assert calls.count == 2 * (2 + 1 + 1)  # by size: two with gradients, one without, and the other function
    assert layer.first.weight.grad is None


def test_statistics_are_those_of_the_clips_alone() -> None:
    """And not of what was run to be recorded; the emulation counts each replay."""
    layer, calls = Layer(), GraphCalls(record_on_the_cpu)
    calls.begin()
    with torch.no_grad():
        calls(doubled, layer, torch.zeros(1, 3, dtype=torch.double))
    assert layer.seen == 1


def test_what_cannot_be_recorded_is_named() -> None:
    def refuse(runs: object) -> list[Recorded]:
        raise RuntimeError("operation not permitted when stream is capturing")

    calls = GraphCalls(refuse)
    with pytest.raises(NotRecorded, match=r"test_graphs\.doubled: RuntimeError: operation not permitted"):
        calls(doubled, Layer(), torch.zeros(1, 3, dtype=torch.double))


def test_processes_that_train_together_see_each_parameter_once() -> None:
    """Through the hooks of `DistributedDataParallel`, of one process here; a function may not be called."""

    class Together(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer()
            self.calls: GraphCalls | None = None

        def forward(self, x: Tensor, further: bool) -> Tensor:
            def call(function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
                return (
                    function(self.layer, *inputs) if self.calls is None else self.calls(function, self.layer, *inputs)
                )

            one, _ = call(doubled, x)
            two, _ = call(doubled, one.tanh())
            return (call(other, two, x)[0] if further else two).square().sum()

    torch.manual_seed(0)
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = Together()
        wrapped = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
        with torch.enable_grad():
            for further in (True, False, True):
                x = torch.randn(4, 3, dtype=torch.double)
                results = []
                for calls in (None, GraphCalls(record_on_the_cpu)):
                    model.calls = calls
                    if calls is not None:
                        calls.begin()
                    wrapped(x, further).backward()
                    results.append(gradients(model.layer))
                for name, gradient in results[0].items():
                    found = results[1][name]
                    if gradient is None:
                        assert found is None or not found.any(), name
                    else:
                        torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)
    finally:
        distributed.destroy_process_group()


def test_rows_are_padded_to_few_numbers() -> None:
    calls = GraphCalls(record_on_the_cpu)
    assert [calls.padded(count, 64) for count in (0, 1, 64, 65)] == [0, 64, 64, 128]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
@torch.enable_grad()
def test_a_network_has_the_losses_and_gradients_that_it_has_without(
    stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clips in float64, one after the other, the second of which replays what was recorded of the first.

    Random weights overlap hardly anything, so that any overlap will do: tracks are carried on, and padded.
    """
    pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")
    from benchmarks.training import Drive, new_network
    from tests.training.test_compilation import MODEL, doubled
    from toolkit.training.clip_losses import default_type
    from toolkit.training.clip_model import ClipModel, total, without_randomness
    from toolkit.training.config import TrainingConfig

    for bound in ("SURVIVING_IOU", "ACTIVE_IOU"):
        monkeypatch.setattr(matching, bound, -1.0)
    training = TrainingConfig(stage=stage, queue_length=3)
    clips = [doubled(each) for each in Drive.made(MODEL, training).clips[:2]]
    results = []
    for graphs in (False, True):
        with default_type(torch.float64):
            model = new_network(MODEL, training)
            model = ClipModel(model.network, stage, without_randomness(model.network, model.options))
            if graphs:
                model.calls = GraphCalls(record_on_the_cpu)
            found: dict[str, Tensor] = {}
            for number, each in enumerate(clips):
                losses = model(each)
                total(losses).backward()
                found |= {f"{name} of clip {number}": loss.detach() for name, loss in losses.items()}
        grads = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        results.append(found | grads)
    expected, actual = results
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert (actual[name] - value).abs().max().item() <= 1e-9 * max(1.0, value.abs().max().item()), name


@pytest.mark.slow
@torch.enable_grad()
def test_no_rows_make_no_graph() -> None:
    """Random weights overlap hardly anything, so that no track goes on, and none is updated."""
    pytest.importorskip("nuscenes", reason="nuscenes-devkit is not installed")
    from benchmarks.training import Drive, new_network
    from plugins.tracking.training import updated_tracks
    from tests.training.test_compilation import MODEL
    from toolkit.training.clip_model import total
    from toolkit.training.config import TrainingConfig

    called: list[Function] = []

    class Listed(GraphCalls):
        """Says what is called."""

        def __call__(self, function: Function, module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
            called.append(function)
            return super().__call__(function, module, *inputs)

    training = TrainingConfig(stage=1, queue_length=3)
    model = new_network(MODEL, training)
    model.calls = Listed(record_on_the_cpu)
    total(model(Drive.made(MODEL, training).clips[0])).backward()
    assert called
    assert updated_tracks not in called
