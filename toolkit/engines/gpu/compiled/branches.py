"""A part in smaller ones, so that branches of its graph run beside each other."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten
from toolkit.engines.gpu.compiled.split import Part, divide, is_worthwhile

KERNEL, NORM = 4, 2
"""Microseconds of a launch by an operator or a library, and of one of those that torch.compile makes of a norm."""
NORMS = (Aten.layer_norm.default, Aten.softmax.int)
BY_LIBRARIES = (Aten.linear.default, Aten.matmul.default, Aten.conv2d.default)
Key = tuple[float, object]
"""Of a part: its place in the order of parts, and what makes it another than those with an equal place."""
SHORTEST = 12
"""Microseconds that a branch, and what runs beside it, must take: a fork and a join take some of them."""


def spread(part: Part) -> list[Part]:
    """The part, or several in the order of what they read, of which those that need not wait for each other may run at
    the same time.

    A branch is what leaves the longest path at one call and comes back late enough. All other calls are together with
    those that have the same branches before and behind them. So none of the parts waits for one that waits for it:
    along the graph, branches behind become fewer and branches before more.
    """
    calls = [node for node in part.module.graph.nodes if node.op == "call_function"]
    branch = _branches(calls)
    if not branch:
        return [part]
    before = _related(calls, branch, lambda node: node.all_input_nodes)
    behind = _related(calls[::-1], branch, lambda node: node.users)

    def key(node: Node) -> Key:
        own = branch.get(node)
        step = len(before[node]) - len(behind[node])
        return (step, own) if own is not None else (step, (before[node], behind[node]))

    keys = _with_their_users(calls, {node: key(node) for node in calls})
    groups: dict[Key, list[Node]] = defaultdict(list)
    for node in calls:
        groups[keys[node]].append(node)
    ordered = sorted(groups, key=lambda key: key[0])
    return divide(part.module, [groups[key] for key in ordered], part.inputs, part.outputs)


def _branches(calls: list[Node]) -> dict[Node, int]:
    """The calls of branches that are worth it, each with the number of the call on the longest path that it leaves."""
    path = _longest_path(calls)
    position = {node: number for number, node in enumerate(path)}
    start, stop = dict(position), dict(position)
    for node in calls:
        start.setdefault(node, max((start[n] for n in node.all_input_nodes if n in start), default=-1))
    for node in reversed(calls):
        stop.setdefault(node, min((stop[n] for n in node.users if n in stop), default=len(path)))
    found: dict[int, list[Node]] = defaultdict(list)
    for node in calls:
        if node not in position and _cost(path[start[node] + 1 : stop[node]]) >= SHORTEST:
            found[start[node]].append(node)
    return {node: number for number, nodes in found.items() if _cost(nodes) >= SHORTEST for node in nodes}


def _longest_path(calls: list[Node]) -> list[Node]:
    cost, previous = dict[Node, float](), dict[Node, Node | None]()
    for node in calls:
        last = max((n for n in node.all_input_nodes if n in cost), key=lambda n: cost[n], default=None)
        previous[node] = last
        cost[node] = _cost([node]) + (0 if last is None else cost[last])
    path: list[Node] = []
    end = max(calls, key=lambda n: cost[n], default=None)
    while end is not None:
        path.append(end)
        end = previous[end]
    return path[::-1]


def cost(module: GraphModule) -> float:
    """Microseconds that a graph takes, roughly."""
    return _cost(module.graph.nodes)


def _cost(calls: Iterable[Node]) -> float:
    """Microseconds, roughly; what torch.compile fuses with its neighbours costs nothing."""
    launches = norms = 0
    for node in calls:
        launches += is_worthwhile([node]) or node.target in BY_LIBRARIES
        norms += node.target in NORMS
    return KERNEL * launches + NORM * norms


def _related(
    calls: list[Node], branch: Mapping[Node, int], neighbours: Callable[[Node], Iterable[Node]]
) -> dict[Node, frozenset[int]]:
    """The branches that each call waits for, its own among them; backwards, those that wait for it.

    A branch waits as a whole for all that one of its calls waits for.
    """
    direct: dict[Node, set[int]] = {}
    whole: dict[int, set[int]] = defaultdict(set)
    for node in calls:
        direct[node] = {branch[node]} if node in branch else set()
        direct[node].update(*(direct[n] for n in neighbours(node) if n in direct))
        if node in branch:
            whole[branch[node]] |= direct[node]
    for _ in whole:  # at most so many in a row
        for numbers in whole.values():
            numbers.update(*(whole[number] for number in tuple(numbers)))
    return {node: frozenset().union(*(whole[number] for number in numbers)) for node, numbers in direct.items()}


def _with_their_users(calls: list[Node], keys: dict[Node, Key]) -> dict[Node, Key]:
    """Calls without a kernel of their own go to the part that alone reads them, which can fuse them; elements go with
    what they are of, for only tensors pass from part to part.
    """
    keys = dict(keys)
    for node in calls:
        if node.target is operator.getitem:
            keys[node] = keys[node.args[0]]  # type: ignore[index]
    for node in reversed(calls):
        users = {keys.get(user) for user in node.users}
        of_several = node.target is operator.getitem or any(user.target is operator.getitem for user in node.users)
        if len(users) == 1 and None not in users and not of_several and not _cost([node]):
            keys[node] = users.pop()  # type: ignore[assignment]
    return keys
