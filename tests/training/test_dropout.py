"""Dropout is where the reference has it, and inference does not see it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch

from tests.joined import official_graph
from toolkit.nn.dropout import Dropout
from toolkit.nn.transformer import TransformerDecoderLayer

LAYER = re.compile(r"(.*?)\.(?:attentions|ffns|self_attn|multihead_attn|dropout)\b")
RATE = re.compile(r".*\.(?:p|dropout)$")


def layer_of(name: str) -> str:
    """The transformer layer in which something is, by its official name."""
    found = LAYER.match(re.sub(r"\.dropout\d", ".dropout", name))
    assert found is not None
    return found[1]


def test_it_is_in_the_layers_in_which_the_reference_has_it(golden: Path) -> None:
    listed = json.loads((golden / "training" / "stage2_randomness_off.json").read_text())
    expected = {(layer_of(name), float(rate)) for name, rate in listed if RATE.match(name)}
    with torch.device("meta"):
        parts = [submodule.build(official_graph().config) for submodule in official_graph().submodules]
    dropouts = ((n, m) for part in parts for n, m in part.named_modules() if isinstance(m, Dropout) and m.p)
    assert {(layer_of(name), module.p) for name, module in dropouts} == expected


def test_an_exported_layer_has_no_trace_of_it() -> None:
    """Neither has one in training mode at a rate of 0."""
    query, memory = torch.zeros(2, 3, 8), torch.zeros(5, 8)
    layers = (TransformerDecoderLayer(8, 2, 16, 0.1).eval(), TransformerDecoderLayer(8, 2, 16, 0.0).train())
    for layer in layers:
        assert "dropout" not in str(torch.export.export(layer, (query, memory)).graph)
