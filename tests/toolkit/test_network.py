"""Joining submodules by tensor name, and the eager network over the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.network import Network, example_inputs
from toolkit.specs import StateSpec, StateTable, Submodule, TensorSpec, frame_input
from toolkit.wiring import NetworkGraph, join


def scalar(name: str) -> TensorSpec:
    return TensorSpec(name, (1,), "float32", "")


def part(name: str, reads: str, gives: str) -> Submodule:
    """A submodule that reads one tensor and gives another."""
    inputs, outputs = (scalar(reads),), (scalar(gives),)
    return Submodule(name, (f"{name}.",), inputs, outputs, build=lambda config: nn.Identity(), results=(gives,))


def names(specs: tuple[TensorSpec, ...]) -> list[str]:
    return [spec.name for spec in specs]


def test_submodules_find_each_other_by_tensor_name(
    odometry: Submodule, planner: Submodule, config: ModelConfig
) -> None:
    """In whatever order they come."""
    graph = join((planner, odometry), config)
    assert [s.name for s in graph.submodules] == ["odometry", "planner"]
    assert names(graph.outputs) == ["moved", "driven", "plan"]
    assert graph.producer("plan") == "planner"


def test_interface_of_the_whole(graph: NetworkGraph) -> None:
    """Frame inputs that nobody reads are left out; a wire is an output that is no result."""
    assert names(graph.frame_inputs) == ["l2g_rotation", "l2g_translation", "command", "use_previous"]
    assert names(graph.state_inputs) == ["prev_l2g_translation", "prev_driven"]
    assert names(graph.results) == ["driven", "plan"]
    assert names(graph.wires) == ["moved"]


def test_missing_producer(planner: Submodule, config: ModelConfig) -> None:
    with pytest.raises(InputError, match="'planner' reads 'moved', which no submodule produces"):
        join((planner,), config)


def test_second_producer(odometry: Submodule, planner: Submodule, config: ModelConfig) -> None:
    rival = replace(planner, name="rival", checkpoint_prefixes=("rival.",))
    with pytest.raises(InputError, match="'plan' is produced by both 'planner' and 'rival'"):
        join((odometry, planner, rival), config)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (TensorSpec("moved", (2,), "float32", ""), r"'moved' as float32\[2\], but 'moved' is float32\[3\]"),
        (TensorSpec("moved", (3,), "int32", ""), r"'moved' as int32\[3\], but 'moved' is float32\[3\]"),
        (TensorSpec("command", ("plan_steps",), "int32", ""), r"'command' as int32\[2\], but 'command' is int32\[1\]"),
    ],
    ids=["shape", "dtype", "frame input"],
)
def test_clash(spec: TensorSpec, message: str, odometry: Submodule, planner: Submodule, config: ModelConfig) -> None:
    with pytest.raises(InputError, match=f"'planner' reads {message}"):
        join((odometry, replace(planner, inputs=(spec,))), config)


def test_state_clashes_with_its_source(odometry: Submodule, config: ModelConfig) -> None:
    wrong = replace(odometry, states=(StateSpec("prev_l2g_translation", "driven"), odometry.states[1]))
    with pytest.raises(InputError, match=r"'prev_l2g_translation' as float32\[3\], but 'driven' is float32\[1\]"):
        join((wrong,), config)


def test_a_name_as_input_takes_whatever_its_producer_gives(
    odometry: Submodule, planner: Submodule, config: ModelConfig
) -> None:
    graph = join((odometry, replace(planner, inputs=("moved", "command"))), config)
    assert graph.inputs_of(graph.submodules[1]) == (odometry.outputs[0], frame_input("command"))


def test_state_input_is_what_it_follows(graph: NetworkGraph) -> None:
    """In shape and dtype; the meaning says that it is older."""
    assert graph.state_inputs[1] == TensorSpec(
        "prev_driven", (1,), "float32", "previous frame: distance driven in this scene, metres"
    )


def test_submodules_keep_their_order_where_nothing_speaks_against_it(config: ModelConfig) -> None:
    chain = [part(f"{i}", reads=reads, gives=f"t{i}") for i, reads in enumerate(["t2", "timestamp", "timestamp"])]
    assert [s.name for s in join(chain, config).submodules] == ["1", "2", "0"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (StateTable("tracks", "speed", "fresh_tracks", "prev_driven"), "over 'speed', which is not among its states"),
        (StateTable("wheels", "prev_driven", "fresh_tracks", "prev_driven"), "of 'wheels', which is no dimension"),
    ],
)
def test_a_table_is_part_of_the_state(
    table: StateTable, message: str, odometry: Submodule, config: ModelConfig
) -> None:
    with pytest.raises(InputError, match=f"submodule 'odometry' has a table {message}"):
        join((replace(odometry, tables=(table,)),), config)


def test_cycle(config: ModelConfig) -> None:
    with pytest.raises(InputError, match="cycle: hen -> egg -> hen"):
        join((part("hen", reads="egg", gives="hen"), part("egg", reads="hen", gives="egg")), config)


def test_state_breaks_a_cycle(config: ModelConfig) -> None:
    """What a submodule reads from the previous frame needs no producer before it."""
    hen = replace(part("hen", reads="last_egg", gives="hen"), states=(StateSpec("last_egg", "egg"),))
    graph = join((part("egg", reads="hen", gives="egg"), hen), config)
    assert [s.name for s in graph.submodules] == ["hen", "egg"]


def test_state_without_source(odometry: Submodule, config: ModelConfig) -> None:
    astray = replace(odometry, states=(*odometry.states, StateSpec("prev_speed", "speed")))
    with pytest.raises(InputError, match="state 'prev_speed' follows 'speed', which nothing produces"):
        join((astray,), config)


def test_source_of_a_state_is_a_result(odometry: Submodule, config: ModelConfig) -> None:
    """Or it could not be fed back."""
    with pytest.raises(InputError, match="'prev_driven' follows 'driven'; list that among the results of 'odometry'"):
        join((replace(odometry, results=()),), config)


def test_overlapping_checkpoint_prefixes(odometry: Submodule, planner: Submodule, config: ModelConfig) -> None:
    greedy = replace(planner, checkpoint_prefixes=("odometer.scale.",))
    with pytest.raises(InputError, match="'odometry' and 'planner' both claim the checkpoint prefix"):
        join((odometry, greedy), config)


def test_unknown_result(odometry: Submodule, planner: Submodule, config: ModelConfig) -> None:
    with pytest.raises(InputError, match="'planner' lists result 'speed', which is not among its outputs"):
        join((odometry, replace(planner, results=("speed",))), config)


def test_unknown_dimension_or_dtype(config: ModelConfig) -> None:
    with pytest.raises(ValueError, match="'x': unknown dimension 'wheels'; known: cameras, "):
        TensorSpec("x", ("wheels", 2), "float32", "").resolve(config.dimensions())
    with pytest.raises(ValueError, match="'x': dtype 'float64' is not one of float32, int32"):
        TensorSpec("x", (2,), "float64", "")


def run(network: Network, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    """The network's outputs where all other inputs are zero."""
    specs = network.graph.inputs
    zeros = zip(names(specs), example_inputs(specs, network.graph.config), strict=True)
    outputs: dict[str, torch.Tensor] = network(dict(zeros) | given)
    return outputs


def test_network_computes_every_tensor(network: Network) -> None:
    """Driven 12 m so far, and 3 m forward and 4 m to the side since the previous frame."""
    outputs = run(
        network,
        l2g_rotation=torch.eye(3),
        l2g_translation=torch.tensor([13.0, 24.0, 0.0]),
        prev_l2g_translation=torch.tensor([10.0, 20.0, 0.0]),
        prev_driven=torch.tensor([12.0]),
        use_previous=torch.tensor([1]),
    )
    assert list(outputs) == ["moved", "driven", "plan"]
    np.testing.assert_allclose(outputs["driven"], [12 + 5])
    np.testing.assert_allclose(outputs["plan"], [[3, 4], [6, 8]])


def test_weights_have_their_checkpoint_keys(network: Network) -> None:
    assert {key: list(value.shape) for key, value in network.weights().items()} == {
        "odometer.weight": [3, 3],
        "planner.weight": [3, 2],
    }


def test_weight_outside_its_prefixes(odometry: Submodule, config: ModelConfig) -> None:
    network = Network(join((replace(odometry, checkpoint_prefixes=("wheels.",)),), config))
    with pytest.raises(InputError, match=r"'odometry' has entry 'odometer\.weight' outside its checkpoint prefixes"):
        network.weights()


def test_loaded_weights_take_effect(network: Network) -> None:
    """Here: one metre to the right and forward at every step, whatever the motion."""
    network.load_weights({"odometer.weight": torch.eye(3), "planner.weight": torch.ones(3, 2)})
    np.testing.assert_array_equal(run(network)["plan"], [[1, 1], [2, 2]])


def test_network_is_frozen(network: Network) -> None:
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
