"""Which layers of a graph a scheme quantizes, and why others stay as they are."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from toolkit.errors import InputError
from toolkit.graph.edits import constant
from toolkit.graph.graph_pass import NearMiss
from toolkit.graph.precision.assignment import narrow
from toolkit.graph.precision.policy import matches
from toolkit.quantization.candidates import Candidate
from toolkit.quantization.codes import scale_of
from toolkit.quantization.ranges import Ranges
from toolkit.quantization.scheme import LayerClass, QuantizationMode, Scheme

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

FORMS = "convolutions, linear layers and matrix products of FP32 have"


def require_patterns(graph: gs.Graph, candidates: dict[str, Candidate], scheme: Scheme) -> None:
    """Raise InputError for a pattern that matches nothing, or asks for nodes of which none has an 8-bit form."""
    for pattern in itertools.chain(scheme.keep, scheme.only):
        found = [node for node in graph.nodes if matches(pattern, node)]
        if not found:
            raise InputError(f"no node, op type or submodule matches {pattern!r}, by which layers are to be chosen")
        if pattern in scheme.only and not any(node.name in candidates for node in found):
            raise InputError(
                f"{found[0].op} (node {found[0].name!r}) is to be quantized by {pattern!r}, but has no 8-bit form; "
                f"{FORMS} one"
            )


def reason_to_keep(node: gs.Node, candidate: Candidate, ranges: Ranges, scheme: Scheme) -> NearMiss | None:
    """Why a layer stays as it is, and what to do about it; None if it is quantized."""
    chosen = next((pattern for pattern in scheme.keep if matches(pattern, node)), None)
    if chosen is not None:
        return NearMiss(node.name, f"kept by {chosen!r}")
    if scheme.only and not any(matches(pattern, node) for pattern in scheme.only):
        return NearMiss(node.name, "not among the layers asked for")
    if candidate.layer_class not in scheme.classes and not scheme.only:
        return NearMiss(node.name, f"layers of the class {candidate.layer_class.value!r} are not asked for")
    if pattern := scheme.policy.pattern_for(node):
        return NearMiss(node.name, f"{pattern!r} stays in FP32 at any precision")
    if width := narrow(node, scheme.policy) or narrow_convolution(node, candidate, scheme):
        return NearMiss(node.name, width)
    return unfit_range(candidate, ranges, scheme) or unfit_weight(node, candidate)


def narrow_convolution(node: gs.Node, candidate: Candidate, scheme: Scheme) -> str:
    """Why a convolution takes no time, and gives physical quantities; empty if that is not so."""
    if candidate.layer_class is not LayerClass.CONVOLUTION:
        return ""
    channels = node.inputs[1].shape[0]
    return f"a convolution to {channels} channels, as of masks" if channels <= scheme.policy.transform_width else ""


def unfit_range(candidate: Candidate, ranges: Ranges, scheme: Scheme) -> NearMiss | None:
    """What is wrong with the ranges of a layer's tensors, if anything is."""
    tensors = candidate.tensors if scheme.mode is QuantizationMode.INT8 else candidate.activations
    for name in tensors:
        if name not in ranges:
            return NearMiss(
                candidate.node, f"the range of its tensor {name!r} is not known, or not finite", "calibrate again"
            )
        if not scale_of(ranges[name].threshold, scheme.mode) >= np.finfo(np.float32).tiny:
            return NearMiss(
                candidate.node,
                f"its tensor {name!r} is zero in all of the calibration",
                "calibrate with inputs on which it is not",
            )
    return None


def unfit_weight(node: gs.Node, candidate: Candidate) -> NearMiss | None:
    """That a layer's weight is not finite, if so."""
    if candidate.layer_class is LayerClass.PRODUCT:
        return None
    weight = constant(node.inputs[1])
    assert weight is not None  # of a layer with a weight
    return None if np.isfinite(weight).all() else NearMiss(node.name, "its weight holds values that are not finite")
