"""The compiled network computes what the eager one computes, frame after frame; here without torch.compile."""

from __future__ import annotations

import pytest
import torch

from tests.toolkit.small_network import SMALL, assert_same_results, drive, small_network
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu.compiled.network import (
    CompiledNetwork,
    CompiledPart,
    Work,
    compile_network,
    compile_submodule,
    run_side_by_side,
    stream_after,
    urgent_parts,
)
from toolkit.engines.gpu.compiled.tf32 import tf32
from toolkit.network import Network
from toolkit.precision import Precision
from toolkit.specs import Submodule

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


def test_a_drive_is_the_eager_networks(network: Network) -> None:
    """To rounding in FP32 (1e-6 was seen), and with the same decisions."""
    expected = drive(network, network.graph, 4)
    compiled = compile_network(network, Precision.FP32, inductor=False)
    assert_same_results(drive(compiled, network.graph, 4), expected, 1e-5)
    assert expected[1]["next_track_id"].item() > 1  # the drive has tracks, which the state carries on


def submodule(network: Network, name: str) -> Submodule:
    (found,) = (s for s in network.graph.submodules if s.name == name)
    return found


def weight_types(network: Network, name: str, precision: Precision) -> set[tuple[int, torch.dtype]]:
    """Parts and type of the weights that a compiled submodule's products take."""
    return {
        (len(node.args[1].meta["val"]), node.args[1].meta["val"].dtype)
        for part in compile_submodule(network, submodule(network, name), precision, inductor=False)
        for node in part.function.graph.nodes  # type: ignore[attr-defined]
        if node.target in (torch.ops.uniad_gpu.linear.default, torch.ops.uniad_gpu.conv2d.default)
    }


@pytest.mark.parametrize(
    ("precision", "weight"),
    [
        (Precision.FP32, (2, torch.float16)),
        (Precision.TF32, (1, torch.float32)),
        (Precision.FP16, (1, torch.float16)),
        (Precision.BF16, (1, torch.bfloat16)),
    ],
)
def test_products_take_the_precision_that_is_asked_for(
    network: Network, precision: Precision, weight: tuple[int, torch.dtype]
) -> None:
    assert weight_types(network, "image_encoder", precision) == {weight}


@pytest.mark.parametrize("precision", [Precision.TF32, Precision.FP16, Precision.BF16])
def test_a_submodule_that_keeps_fp32_has_it_in_every_precision(network: Network, precision: Precision) -> None:
    encoder = submodule(network, "bev_encoder")
    assert encoder.keep_fp32 == ("*",)
    assert weight_types(network, "bev_encoder", precision) == {(2, torch.float16)}
    parts = compile_submodule(network, encoder, precision, inductor=False)
    assert {part.precision for part in parts} == {Precision.FP32}


@pytest.mark.parametrize(
    ("precision", "most"), [(Precision.TF32, 5e-3), (Precision.FP16, 5e-3), (Precision.BF16, 5e-2)]
)
def test_reduced_precision_deviates_but_only_a_little(network: Network, precision: Precision, most: float) -> None:
    """20 convolutions in a row, whose factors keep 11 bits, or 8 in BF16."""
    encoder = submodule(network, "image_encoder")
    images = {"image": torch.from_numpy(probe_frames(SMALL, 1, scene_change=1)[0]["image"])}
    (part,) = compile_submodule(network, encoder, precision, inductor=False)
    expected, actual = network.run_submodule(encoder, images), part(images)
    assert actual.keys() == expected.keys()
    for name, wanted in expected.items():
        assert actual[name].dtype == torch.float32
        error = (actual[name] - wanted).norm() / wanted.norm()
        assert 2**-24 * 10 < error < most


def test_others_do_not_wait_for_what_they_do_not_read(network: Network) -> None:
    """Motion forecasting waits for lanes, not for masks; for agents, not for the state of the next frame."""
    for name, awaited, last in (
        ("map_segmentation", {"lane_query", "lane_query_position"}, {"map_scores", "map_mask_scores"}),
        ("tracking", {"agent_embedding", "agent_center"}, {"track_query", "track_memory"}),
    ):
        parts = compile_submodule(network, submodule(network, name), Precision.FP32, inductor=False)
        needed = set(awaited)
        for part in reversed(parts):
            if needed.intersection(part.outputs):
                needed |= {*part.inputs, *part.outputs}
        assert last <= {output for part in parts for output in part.outputs} - needed


def test_a_part_takes_its_inputs_by_name_and_gives_its_outputs_by_name() -> None:
    """Whatever else there is; a single output needs no tuple."""
    tensors = {"a": torch.ones(2), "b": torch.full((2,), 3.0), "c": torch.zeros(2)}
    difference = CompiledPart("sum", Precision.FP32, lambda b, a: b - a, ("b", "a"), ("difference",))
    both = CompiledPart("sum", Precision.FP32, lambda d: (d, d * 2), ("difference",), ("same", "double"))
    produced = run_side_by_side([difference, both], tensors)
    assert {name: tensor[0].item() for name, tensor in produced.items()} == {"difference": 2, "same": 2, "double": 4}


def test_a_part_more() -> None:
    """It reads inputs and outputs of the network, which stays as it was."""
    double = CompiledPart("double", Precision.FP32, lambda a: a * 2, ("a",), ("b",))
    network = CompiledNetwork([double], ["b"], [])
    more = network.with_part(CompiledPart("more", Precision.FP32, lambda a, b: a + b, ("a", "b"), ("sum",)))
    inputs = {"a": torch.ones(2)}
    assert {name: tensor[0].item() for name, tensor in more(inputs).items()} == {"b": 2, "sum": 3}
    assert network(inputs).keys() == {"b"}


def test_a_part_goes_on_where_the_latest_that_it_waits_for_ended() -> None:
    """Or else on the stream of one that those wait for, unless something went on there that it need not wait for."""

    def work(number: int, before: set[int], stream: str) -> Work:
        return Work(number, frozenset({number, *before}), stream, None)  # type: ignore[arg-type]

    first, second, third, fourth = (
        work(0, set(), "one"), work(1, {0}, "two"), work(2, {0, 1}, "three"), work(3, {0}, "one"),
    )  # fmt: skip
    assert stream_after([first, second], [first, second]) == "two"
    assert stream_after([first, second], [third, first, second]) == "two"
    assert stream_after([second], [first, third]) == "one"
    assert stream_after([second], [fourth, third]) is None
    assert stream_after([], [first, second]) is None


def test_what_the_end_waits_for_longest_is_urgent() -> None:
    """Of a path of 10 and 20, one of 10 and 15 beside it and one of 26 that meets nobody, the last two can wait."""

    def part(inputs: tuple[str, ...], output: str, microseconds: float) -> CompiledPart:
        return CompiledPart(output, Precision.FP32, lambda *_: None, inputs, (output,), microseconds)

    parts = [
        part(("x",), "first", 10), part(("first",), "long", 20), part(("first",), "short", 15), part(("x",), "own", 26),
        part(("short", "long", "own"), "end", 2),
    ]  # fmt: skip
    assert urgent_parts(parts) == {0, 1, 4}


@pytest.mark.parametrize("precision", Precision)
def test_libraries_may_use_tf32_in_parts_of_that_precision_alone(precision: Precision) -> None:
    matmul = torch.backends.cuda.matmul

    def allowed(tensor: torch.Tensor) -> torch.Tensor:
        return torch.tensor([matmul.allow_tf32, torch.backends.cudnn.allow_tf32])

    part = CompiledPart("its own", precision, allowed, ("a",), ("allowed",))
    with tf32(False):
        assert part({"a": torch.ones(2)})["allowed"].tolist() == [precision is Precision.TF32] * 2
        assert not matmul.allow_tf32
