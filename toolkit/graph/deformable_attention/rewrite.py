"""The fused node and what it needs, put into a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.graph.deformable_attention.recipe import REST, Dimensions, Fusion, Recipe, SizeOf
from toolkit.graph.deformable_attention.sizes import type_number
from toolkit.ops.spec import DOMAIN

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

NODE = "MultiScaleDeformableAttention"
UNEVEN_NODE = "UnevenDeformableAttention"
"""Where levels have different numbers of points."""


def node_type(fusion: Fusion) -> str:
    """The op that computes a fusion."""
    return UNEVEN_NODE if fusion.uneven else NODE


def insert(graph: gs.Graph, fusion: Fusion, name: str) -> None:
    """Compute the result of a fusion by one node `name`, and no longer as before."""
    site = Site(graph, name, fusion.dtype)
    parts = [site.prepared(*part, f"value_{level}") for level, part in enumerate(fusion.value)]
    value = parts[0] if len(parts) == 1 else site.made("Concat", parts, "value", axis=1)
    offsets = site.prepared(*fusion.offsets, "offsets")
    if fusion.reference is None:
        shape = site.shape((1, fusion.queries, 1, 2), offsets, "origin")
        zero = site.constant("zero", np.zeros(1, fusion.dtype))
        reference = site.made("Expand", [zero, shape], "reference")
    else:
        reference = site.prepared(*fusion.reference, "reference")
    inputs = [value, reference, offsets, site.prepared(*fusion.logits, "logits")]
    attributes = {"spatial_shapes": list(fusion.spatial_shapes)}
    if fusion.uneven:
        attributes["level_points"] = list(fusion.level_points)
    output = site.made(node_type(fusion), inputs, "", domain=DOMAIN, **attributes)
    result = site.cast(site.prepared(output, fusion.recipe, "output"), fusion.result.dtype, "output/cast")
    maker = result.inputs[0]
    fusion.result.inputs.clear()
    maker.outputs = [fusion.result]


@dataclass(frozen=True)
class Site:
    """A place in a graph where nodes are added, all names beginning with `name`."""

    graph: gs.Graph
    name: str
    dtype: Any

    def made(
        self,
        op: str,
        inputs: list[gs.Tensor],
        what: str,
        *,
        domain: str | None = None,
        dtype: Any = None,
        **attributes: Any,
    ) -> gs.Tensor:
        """The output of a new node."""
        import onnx_graphsurgeon as gs

        name = f"{self.name}/{what}" if what else self.name
        output = gs.Variable(f"{name}/output", dtype or self.dtype)
        self.graph.nodes.append(gs.Node(op, name, attributes, inputs, [output], domain))
        return output

    def constant(self, what: str, values: Any) -> gs.Tensor:
        """A new constant."""
        import onnx_graphsurgeon as gs

        return gs.Constant(f"{self.name}/{what}", values)

    def prepared(self, tensor: gs.Tensor, recipe: Recipe, what: str) -> gs.Tensor:
        """An operand by its recipe."""
        tensor = self.cast(tensor, self.dtype, f"{what}/cast")
        if recipe.order:
            tensor = self.reshaped(tensor, recipe.split, f"{what}/split")
            tensor = self.made("Transpose", [tensor], f"{what}/transpose", perm=list(recipe.order))
        if recipe.shape is not None:
            tensor = self.reshaped(tensor, recipe.shape, f"{what}/reshape")
        for op, numbers in (("Mul", recipe.scale), ("Add", recipe.shift)):
            if numbers is not None:
                constant = self.constant(f"{what}/{op.lower()}/numbers", numbers.astype(self.dtype))
                tensor = self.made(op, [tensor, constant], f"{what}/{op.lower()}")
        return tensor

    def cast(self, tensor: gs.Tensor, dtype: Any, what: str) -> gs.Tensor:
        """A tensor in another type, if it is not of that type."""
        if dtype is None or tensor.dtype is None or tensor.dtype == dtype:
            return tensor
        return self.made("Cast", [tensor], what, dtype=dtype, to=type_number(dtype))

    def reshaped(self, tensor: gs.Tensor, dimensions: Dimensions, what: str) -> gs.Tensor:
        """A tensor after a Reshape."""
        sizes = stated_sizes(dimensions)
        if sizes is None:
            shape = self.shape(dimensions, tensor, what)
        else:
            shape = self.constant(f"{what}/shape", np.array(sizes, np.int64))
        return self.made("Reshape", [tensor, shape], what)

    def shape(self, dimensions: Dimensions, tensor: gs.Tensor, what: str) -> gs.Tensor:
        """A shape, in part copied from that of a tensor."""
        whole = self.made("Shape", [tensor], f"{what}/whole_shape", dtype=np.int64)
        parts = []
        for place, size in enumerate(dimensions):
            number = size.axis if isinstance(size, SizeOf) else size
            part = self.constant(f"{what}/{place}", np.array([number], np.int64))
            if isinstance(size, SizeOf):
                part = self.made("Gather", [whole, part], f"{what}/size_{place}", dtype=np.int64, axis=0)
            parts.append(part)
        return self.made("Concat", parts, f"{what}/shape", dtype=np.int64, axis=0)


def stated_sizes(dimensions: Dimensions) -> list[int] | None:
    """A shape in Reshape's own words, 0 for an axis that keeps its size and -1 for the rest; None if these fail."""
    varied = [axis for axis, size in enumerate(dimensions) if isinstance(size, SizeOf) or size == REST]
    if len(varied) == 1:
        return [REST if axis in varied else size for axis, size in enumerate(dimensions)]  # type: ignore[misc]
    if any(isinstance(size, SizeOf) and size.axis != axis for axis, size in enumerate(dimensions)):
        return None
    return [0 if isinstance(size, SizeOf) else size for size in dimensions]
