"""A submodule as a graph of calls of operators, none of which writes into a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from toolkit.engines.gpu.compiled.passes.graph_edit import Aten
from toolkit.engines.gpu.compiled.scopes import inline_scopes
from toolkit.errors import InputError


def export_graph(part: nn.Module, examples: Sequence[Tensor]) -> GraphModule:
    """The graph of a module for inputs of these shapes.

    Raises InputError where it changes buffers or inputs, or where a value decides what is computed.
    """
    program = torch.export.export(part, tuple(examples), strict=False)
    inline_scopes(program.graph_module)
    _refuse_decisions(program)
    if any(_writes(node) for node in program.graph.nodes):
        program = program.run_decompositions({})  # the same in values of their own, for passes take values for final
        _refuse_effects(program)
    module = program.module(check_guards=False)  # shapes are fixed
    assert isinstance(module, GraphModule)
    return module


def _refuse_decisions(program: ExportedProgram) -> None:
    """A CUDA graph launches the same kernels over the same sizes every time, and shows the host nothing on the way."""
    for node in program.graph.nodes:
        value = node.meta.get("val")
        sizes = value.shape if isinstance(value, Tensor) else (value,)
        if any(isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool) for size in sizes):
            raise InputError(
                f"{node.target} gives a number or a size that depends on values; compute with tensors of fixed shapes "
                "and masks"
            )


def _writes(node: Node) -> bool:
    overload = isinstance(node.target, torch._ops.OpOverload)
    return overload and node.target._schema.is_mutable and node.target is not Aten.detach_.default  # type: ignore[union-attr]


def _refuse_effects(program: ExportedProgram) -> None:
    signature = program.graph_signature
    changed = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if changed:
        raise InputError(f"it writes into {changed[0]!r}; return what is to last as an output, with a StateSpec")
