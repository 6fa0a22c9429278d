"""Metrics from plugins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from toolkit.errors import InputError
from toolkit.evaluation.metric import Metric, Verdict
from toolkit.hookspecs import hookimpl
from toolkit.plugin.manager import PluginManager

SMOOTHNESS = Metric(
    name="smoothness",
    meaning="how little a plan jerks",
    needs=("plan",),
    truth=(),
    open=lambda truth: lambda frame: frame.result.plan,
    compute=lambda measured, folder: Verdict(),
)


@dataclass(eq=False)
class Offer:
    """A plugin with metrics."""

    offered: Sequence[Metric]

    @hookimpl
    def uniad_metrics(self) -> Sequence[Metric]:
        return self.offered


def managed(*offers: Offer) -> PluginManager:
    manager = PluginManager()
    for number, offer in enumerate(offers):
        manager.register(offer, f"plugin {number}")
    return manager


def test_a_plugin_offers_metrics() -> None:
    assert managed(Offer([SMOOTHNESS])).metrics() == (SMOOTHNESS,)


def test_a_metric_stands_in_for_another() -> None:
    better = replace(SMOOTHNESS, name="jerk", replaces="smoothness")
    assert managed(Offer([SMOOTHNESS]), Offer([better])).metrics() == (better,)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="both offer a metric named 'smoothness'"):
        managed(Offer([SMOOTHNESS]), Offer([SMOOTHNESS])).metrics()


def test_what_is_replaced_must_exist() -> None:
    with pytest.raises(InputError, match="replaces metric 'comfort', which does not exist; known: smoothness"):
        managed(Offer([replace(SMOOTHNESS, replaces="comfort")])).metrics()
