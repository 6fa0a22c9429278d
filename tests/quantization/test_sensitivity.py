"""Which layers are chosen, given what quantizing them does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from toolkit.errors import CheckFailed
from toolkit.quantization.candidates import Candidate
from toolkit.quantization.gates import Finding
from toolkit.quantization.scheme import LayerClass
from toolkit.quantization.sensitivity import Lengths, Nodes, Trial, choose

LAYERS = tuple(
    Candidate(f"{submodule}/{kind.value}{i}", "", submodule, kind, ("x",))
    for submodule in ("eyes", "memory", "driver")
    for kind in (LayerClass.CONVOLUTION, LayerClass.LINEAR)
    for i in range(2)
)
ALL = frozenset(layer.node for layer in LAYERS)
SHORT = Lengths(4, 4)


def hurting(**errors: float) -> Trial:
    """Each layer whose name begins so moves the plan by so many centimetres; 10 are allowed."""
    by_name = {name.replace("_", "/"): error for name, error in errors.items()}

    def trial(nodes: Nodes, frames: int) -> tuple[Finding, ...]:
        total = sum(error for node in nodes for name, error in by_name.items() if node.startswith(name))
        return (Finding("plan", total, 10.0, f"{total:g} cm"),)

    return trial


def kept(choice_kept: Mapping[str, str]) -> set[str]:
    return {node.rstrip("01") for node in choice_kept}


def test_all_layers_are_quantized_if_gates_hold() -> None:
    """What single units do is measured nevertheless."""
    choice = choose(LAYERS, hurting(memory=1), SHORT)
    assert (choice.nodes, choice.kept) == (ALL, {})
    assert {e.unit: e.severity for e in choice.effects} == {
        "eyes": 0,
        "memory": 0.4,
        "driver": 0,
        "convolution layers": 0.2,
        "linear layers": 0.2,
    }


def test_only_the_layers_that_hurt_are_kept() -> None:
    choice = choose(LAYERS, hurting(memory_linear=8), SHORT)
    assert kept(choice.kept) == {"memory/linear"}
    assert choice.kept["memory/linear0"] == (
        "memory alone: plan: 16 cm (bound 10); gates failed with it: plan: 16 cm (bound 10)"
    )
    assert [step.kept for step in choice.steps] == ["", "linear layers of memory"]
    assert choice.steps[-1].holds


def test_the_search_keeps_one_group_after_the_other() -> None:
    choice = choose(LAYERS, hurting(memory=5, driver_linear=3), SHORT)
    assert kept(choice.kept) == {"memory/linear", "memory/convolution"}


def test_a_large_group_is_divided_before_it_is_kept() -> None:
    """One layer of forty does the harm: those around it are kept with it, the other ones are not."""
    layers = [Candidate(f"eyes/{i:02}", "", "eyes", LayerClass.CONVOLUTION, ("x",)) for i in range(40)]
    choice = choose(layers, hurting(eyes_13=50), SHORT)
    assert sorted(choice.kept) == [f"eyes/{i}" for i in range(10, 15)]
    assert [step.kept for step in choice.steps] == ["", "convolution layers of eyes, 11 to 15"]


def test_what_the_whole_drive_shows_counts() -> None:
    """A short drive decides what to try, the long one what holds."""

    def trial(nodes: Nodes, frames: int) -> tuple[Finding, ...]:
        drift = sum(frames for node in nodes if node.startswith("memory/linear"))
        return (Finding("state", drift, 20.0, f"{drift}"),)

    choice = choose(LAYERS, trial, Lengths(short=4, whole=40))
    assert kept(choice.kept) == {"memory/linear"}


def test_nothing_left_to_quantize_is_an_error_that_names_the_culprit() -> None:
    with pytest.raises(CheckFailed, match=r"no layer can be quantized .* plan: 200 cm"):
        choose(LAYERS, hurting(eyes=100, memory=100, driver=100), SHORT)


def test_time_may_run_out() -> None:
    with pytest.raises(CheckFailed, match=r"no choice of layers was found in time: .*; raise --budget"):
        choose(LAYERS, hurting(memory_linear=8), SHORT, spent=lambda: True)
