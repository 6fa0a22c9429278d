"""Fake quantization: a network that computes in floats, but with the values that a quantized bundle's codes have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from toolkit.network import Network
from toolkit.quantization.places import Place, Places
from toolkit.quantization.scheme import QuantizationMode

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv3d)
SUMS = (torch.add, Tensor.add, Tensor.add_)
SLACK = 1 + 4 * torch.finfo(torch.float32).eps
"""By which a value at the end of a range may exceed it for the rounding of its scale."""
LEAST_SCALE = torch.finfo(torch.float32).tiny
Key = tuple[int, int, int]
"""Address of a storage, where in it a tensor begins, and its rows."""


class Rounded(torch.autograd.Function):
    """A tensor rounded to codes and back; its gradient passes where the codes reach, and is zero beyond.

    `scale` is of the tensor's own device and broadcasts to it; codes of INT8 go from `least` to 127.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, mode: QuantizationMode, least: float) -> Tensor:
        codes = x.to(torch.promote_types(x.dtype, torch.float32)) / scale
        if mode is QuantizationMode.INT8:
            codes = codes.round_()
        ctx.save_for_backward((codes >= SLACK * least) & (codes <= SLACK * mode.largest))
        codes = codes.clamp_(least, mode.largest)
        if mode is QuantizationMode.FP8:
            codes = codes.to(torch.float8_e4m3fn).to(codes.dtype)
        return (codes * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        [within] = ctx.saved_tensors
        return gradients[0] * within, None, None, None


def rounded_activation(x: Tensor, scale: Tensor, mode: QuantizationMode) -> Tensor:
    """A tensor with the values of an activation's codes, of which INT8 has one more below zero than above."""
    least = -mode.largest - (mode is QuantizationMode.INT8)
    rounded: Tensor = Rounded.apply(x, scale, mode, least)  # type: ignore[no-untyped-call]
    return rounded


def rounded_weight(weight: Tensor, mode: QuantizationMode) -> Tensor:
    """A weight with the values of its codes, with a scale for each row by its largest magnitude, as `weight_codes`."""
    with torch.no_grad():
        scale = weight.flatten(1).abs().amax(1).float() / mode.largest
        scale = torch.where(scale < LEAST_SCALE, 1, scale).reshape(-1, *[1] * (weight.ndim - 1))
    rounded: Tensor = Rounded.apply(weight, scale, mode, -mode.largest)  # type: ignore[no-untyped-call]
    return rounded


@dataclass(frozen=True)
class _Layer:
    """A place with its scales on a device."""

    place: Place
    activation: Tensor
    result: Tensor | None
    other: Tensor | None
    total: Tensor | None

    @classmethod
    def at(cls, place: Place, device: torch.device) -> _Layer:
        def scale(value: float | None) -> Tensor | None:
            return None if value is None else torch.tensor(value, device=device)

        added = place.sum
        own = torch.tensor(place.activation, device=device)
        return cls(
            place, own, scale(place.result), *map(scale, (None, None) if added is None else (added.other, added.result))
        )


class FakeQuantization(TorchFunctionMode):
    """While it is entered, a network rounds at some places; it stays as it is, and so do its state dict's keys.

    Layers are known by the parameters that they compute with, whichever module or step of a training calls them.
    `met` has the nodes of the places that were come by. A weight is rounded once while it is entered.
    """

    def __init__(self, network: Network, places: Places) -> None:
        super().__init__()
        self.met: set[str] = set()
        self._network, self._places, self._mode = network, places.found, places.mode
        self._handlers: dict[Any, Callable[..., Tensor]] = {
            torch.nn.functional.linear: self._layer,
            torch.nn.functional.batch_norm: self._normalisation,
            **dict.fromkeys(CONVOLUTIONS, self._layer),
            **dict.fromkeys(SUMS, self._sum),
        }

    def __enter__(self) -> FakeQuantization:
        """Learn where the network's parameters are now, for they may have moved."""
        entries = {key: value for part in self._network.parts.values() for key, value in tensors_of(part)}
        self._layers: dict[Key, _Layer] = {}
        self._normalisations: dict[Key, _Layer] = {}
        self._weights: dict[tuple[Key, bool], Tensor] = {}
        self._results: Any = WeakIdKeyDictionary()
        for place in self._places:
            weight = entries[place.entry]
            layer = _Layer.at(place, weight.device)
            self._layers[key_of(weight[place.first : place.first + place.rows])] = layer
            if place.normalised is not None:
                self._normalisations[key_of(entries[place.normalised])] = layer
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        """Keep no rounded weight: those that a gradient needs are kept by its graph."""
        self._weights.clear()
        super().__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        handler = self._handlers.get(func)
        return func(*args, **kwargs or {}) if handler is None else handler(func, *args, **kwargs or {})

    def _layer(self, func: Callable[..., Tensor], x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """A convolution or linear layer."""
        key = key_of(weight)
        layer = self._layers.get(key)
        if layer is None:
            return func(x, weight, *args, **kwargs)
        self.met.add(layer.place.node)
        cached = key, torch.is_grad_enabled()
        if cached not in self._weights:
            self._weights[cached] = rounded_weight(weight, self._mode)
        x = rounded_activation(x, layer.activation, self._mode)
        result = func(x, self._weights[cached], *args, **kwargs)
        return result if layer.place.normalised else self._given(result, layer)

    def _normalisation(
        self, func: Callable[..., Tensor], x: Tensor, mean: Tensor | None, *args: Any, **kw: Any
    ) -> Tensor:
        layer = None if mean is None else self._normalisations.get(key_of(mean))
        result = func(x, mean, *args, **kw)
        return result if layer is None else self._given(result, layer)

    def _given(self, result: Tensor, layer: _Layer) -> Tensor:
        """A layer's result, rounded if the bundle does so."""
        if layer.result is None:
            return result
        rounded = rounded_activation(result, layer.result, self._mode)
        if layer.total is not None:
            self._results[rounded] = layer
        return rounded

    def _sum(self, func: Callable[..., Tensor], a: Tensor, b: Any, *args: Any, **kwargs: Any) -> Tensor:
        """An addition, rounded with what is added if the bundle does so."""
        layer = next((self._results[each] for each in (a, b) if each in self._results), None)
        if layer is None or not isinstance(b, Tensor):
            return func(a, b, *args, **kwargs)
        own = layer.result, layer.other
        scales = own if self._results.get(a) is layer else own[::-1]
        terms = (rounded_activation(each, scale, self._mode) for each, scale in zip((a, b), scales, strict=True))
        return rounded_activation(torch.add(*terms, *args, **kwargs), layer.total, self._mode)


def key_of(tensor: Tensor) -> Key:
    """Where a parameter, or some rows of it, lie."""
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.shape[0]


def tensors_of(part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a part by their official keys."""
    yield from chain(part.named_parameters(), part.named_buffers())
