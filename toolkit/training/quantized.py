"""Training a network as it will be quantized: the places of a quantized bundle, in the network that is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.engines.torch import load_network
from toolkit.errors import InputError
from toolkit.graph.model_file import read_model
from toolkit.network import Network
from toolkit.quantization.fake import FakeQuantization
from toolkit.quantization.places import Places, find_places
from toolkit.quantization.record import QuantizationRecord
from toolkit.text import quoted

if TYPE_CHECKING:
    from toolkit.plugin.manager import PluginManager


@dataclass(frozen=True)
class QuantizedBundle:
    """A quantized bundle, its FP32 weights by official key, and where it rounds."""

    bundle: Bundle
    weights: Mapping[str, Tensor]
    places: Places


def read_quantized(path: Path, plugins: PluginManager) -> QuantizedBundle:
    """Read a bundle that `quantize` wrote. Raises InputError for others, for damaged ones, and for missing plugins."""
    bundle = Bundle.read(path)
    record = QuantizationRecord.read(bundle)
    if record is None:
        raise InputError(f"bundle {path} is not quantized; give --quantize one that `quantize` has written")
    for form in ("functional", "weights"):
        bundle.require_intact(form)
    network = load_network(bundle, plugins)
    places = find_places(read_model(bundle.onnx), record.layers, network, record.source.mode)
    return QuantizedBundle(bundle, network.weights(), places)


def places_in(quantized: QuantizedBundle, network: Network, stage: int) -> Places:
    """Those of its places that a network has which is to be trained.

    Raises InputError if the network is another one, or has none of them.
    """
    path, given = quantized.bundle.path, network.weights()
    for key, value in given.items():
        if key not in quantized.weights:
            raise InputError(f"bundle {path} is of another network than the config's: it has no {quoted(key)}")
        if (shape := quantized.weights[key].shape) != value.shape:
            raise InputError(
                f"bundle {path} is of another network than the config's: its {quoted(key)} has shape {list(shape)}, "
                f"and not {list(value.shape)}"
            )
    places = quantized.places.within(given, f"it is not trained in stage {stage}")
    if not places.found:
        raise InputError(
            f"bundle {path}: no layer that it quantizes is trained in stage {stage}, such as "
            + next((f"{quoted(node)}: {reason}" for node, reason in places.left.items()), "none at all")
        )
    return places


def rounding_in(quantized: QuantizedBundle, network: Network, stage: int) -> tuple[FakeQuantization, tuple[str, ...]]:
    """What makes a network round at the places of a bundle, and what a user should know about it, a sentence each.

    Raises InputError as `places_in` does.
    """
    places = places_in(quantized, network, stage)
    return FakeQuantization(network, places), tuple(notes(quantized, places, network))


def notes(quantized: QuantizedBundle, places: Places, network: Network) -> Iterator[str]:
    """What a user should know about the places, a sentence each."""
    count, total = len(places.found), len(places.found) + len(places.left)
    yield f"{count} of the {total} layers that {quantized.bundle.path} quantizes are rounded to {places.mode.value}"
    for reason, count in Counter(places.left.values()).most_common():
        first = next(node for node, each in places.left.items() if each == reason)
        yield f"not rounded, {count} of the layers, such as {quoted(first)}: {reason}"
    other = [key for key, value in network.weights().items() if not torch.equal(value, quantized.weights[key])]
    if other:
        yield (
            f"{len(other)} entries of the network, such as {quoted(other[0])}, are not those that the bundle was "
            "quantized with, and its ranges may not fit them"
        )
