"""The largest elements of a short vector by counting: two small kernels in place of a selection and a sort."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten, add_constant, calls, finish, is_call, replace, shape_of

LONGEST = 2048
"""Elements; each is compared with every other."""


def rank_topk(gm: GraphModule) -> int:
    """Replace topk of a vector; returns the number replaced.

    An element's rank is how many are better, or equal and before it; PyTorch leaves the order of equals open. Not a
    number has no rank: whatever is found then is an index of the vector.
    """
    rewrites = 0
    for node in calls(gm, Aten.topk.default):
        settings: list[Any] = [*node.args, -1, True, True]
        vector, count, _, largest = settings[:4]
        takers = list(node.users)
        short = isinstance(vector, Node) and len(shape_of(vector)) == 1 and shape_of(vector)[0] <= LONGEST
        if not short or not all(is_call(taker, operator.getitem) for taker in takers):
            continue
        with gm.graph.inserting_before(node):
            found = _values_and_indices(gm, vector, count, Aten.gt.Tensor if largest else Aten.lt.Tensor)
        for taker in takers:
            place: Any = taker.args[1]
            replace(taker, found[place])
        gm.graph.erase_node(node)
        rewrites += 1
    return finish(gm, rewrites)


def _values_and_indices(gm: GraphModule, vector: Node, count: int, better: Any) -> tuple[Node, Node]:
    call, value = gm.graph.call_function, vector.meta["val"]
    places = add_constant(gm, torch.arange(len(value), device=value.device))
    ranks = add_constant(gm, torch.arange(count, device=value.device)[:, None])
    mine, others = call(Aten.unsqueeze.default, (vector, 1)), call(Aten.unsqueeze.default, (vector, 0))
    earlier = call(Aten.lt.Tensor, (places, call(Aten.unsqueeze.default, (places, 1))))
    tied = call(Aten.logical_and.default, (call(Aten.eq.Tensor, (others, mine)), earlier))
    ahead = call(Aten.logical_or.default, (call(better, (others, mine)), tied))
    rank = call(Aten.sum.dim_IntList, (ahead, [1]))
    taken = call(Aten.mul.Tensor, (call(Aten.eq.Tensor, (rank, ranks)), places))
    index = call(Aten.clamp.default, (call(Aten.sum.dim_IntList, (taken, [1])), 0, len(value) - 1))
    return call(Aten.index_select.default, (vector, 0, index)), index
