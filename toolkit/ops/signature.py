"""The signature of a custom op: what a torch operator takes and gives, as inputs, outputs and attributes of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from toolkit.errors import InputError

Item = TypeVar("Item")

ATTRIBUTE_TYPES = ("int", "float", "bool", "str", "List[int]", "List[float]")
"""Of arguments that become attributes, as a torch schema calls them."""

FIXED_TYPES = ("float32", "int32", "int64", "bool")
"""Of tensors that do not share the op's floating-point type."""

POSSIBLE = "Tensor, Optional[Tensor], a list of Tensor, int, float, bool, str, and lists of int or float"


@dataclass(frozen=True)
class Port:
    """A tensor that a node takes or gives.

    `dtype` is its type by the name that numpy has for it; None is the floating-point type that all such tensors of a
    node share, FP32 or a reduced one.
    """

    name: str
    dtype: str | None = None
    optional: bool = False

    @property
    def has_gradient(self) -> bool:
        """Whether its numbers are floating-point."""
        return self.dtype in (None, "float32")


@dataclass(frozen=True)
class Argument:
    """An argument of the torch operator; `ports` are those of its tensors, several for a list, none for an attribute.

    `kind` is its type in the torch schema.
    """

    name: str
    kind: str
    ports: tuple[Port, ...]
    by_name: bool


@dataclass(frozen=True)
class Signature:
    """Arguments in the order of torch, and what they are for a node: its inputs, its attributes with their defaults."""

    op: str
    arguments: tuple[Argument, ...]
    outputs: tuple[Port, ...]
    defaults: Mapping[str, Any]

    @property
    def inputs(self) -> tuple[Port, ...]:
        """One for each tensor; a list has one for each of its elements, named after it with a number."""
        return tuple(port for argument in self.arguments for port in argument.ports)

    @property
    def attributes(self) -> dict[str, str]:
        """Names of the attributes and their types in the torch schema."""
        return {argument.name: argument.kind for argument in self.arguments if not argument.ports}

    @property
    def shared(self) -> int | None:
        """Position of the first input that is always there and has the type that tensors without their own share."""
        return next((i for i, p in enumerate(self.inputs) if p.dtype is None and not p.optional), None)

    def bind(self, positional: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Inputs, None for those left out, and attributes of a call of the torch operator, defaults filled in.

        Raises InputError if an argument is missing or too much, or a list of tensors is not as long as it should be.
        """
        names = [argument.name for argument in self.arguments if not argument.by_name]
        given = {**self.defaults, **dict(zip(names, positional, strict=False)), **named}
        missing = [argument.name for argument in self.arguments if argument.name not in given]
        if missing or len(positional) > len(names) or len(given) > len(self.arguments):
            wanted = ", ".join(argument.name for argument in self.arguments)
            raise InputError(f"op {self.op!r} takes the arguments {wanted}; the call has {len(positional)} of them")
        tensors: list[Any] = []
        for argument in self.arguments:
            value = given[argument.name]
            if argument.ports and argument.kind == "List[Tensor]":
                if len(value) != len(argument.ports):
                    raise InputError(
                        f"op {self.op!r}: argument {argument.name!r} is a list of {len(argument.ports)} tensors, "
                        f"not {len(value)}"
                    )
                tensors += value
            elif argument.ports:
                tensors.append(value)
        return tensors, {name: given[name] for name in self.attributes}

    def grouped(self, inputs: Sequence[Item]) -> list[Item | list[Item]]:
        """A node's inputs as the torch operator's tensor arguments, lists put together."""
        left = iter(inputs)
        return [
            [next(left) for _ in argument.ports] if argument.kind == "List[Tensor]" else next(left)
            for argument in self.arguments
            if argument.ports
        ]

    def call(self, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named arguments of the torch operator for a node."""
        tensors = iter(self.grouped(inputs))
        values = {a.name: next(tensors) if a.ports else attributes[a.name] for a in self.arguments}
        return (
            [values[a.name] for a in self.arguments if not a.by_name],
            {a.name: values[a.name] for a in self.arguments if a.by_name},
        )

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A node's attributes as Python has them, defaults filled in; what is missing is left out."""
        complete = {name: given.get(name, self.defaults.get(name)) for name in self.attributes}
        kinds = self.attributes
        return {
            name: bool(value) if kinds[name] == "bool" else value
            for name, value in complete.items()
            if value is not None
        }


def read_signature(
    op: str,
    schema: torch.FunctionSchema,
    outputs: Sequence[str],
    types: Mapping[str, str],
    lengths: Mapping[str, int],
) -> Signature:
    """The signature of a torch operator; see `CustomOp` for what its author states beyond the schema.

    Raises InputError, naming op and argument, for what a node, a kernel or TensorRT has no form for.
    """
    arguments = tuple(_argument(op, argument, types, lengths) for argument in schema.arguments)
    given = [str(returned.type) for returned in schema.returns]
    if not given or any(kind != "Tensor" for kind in given):
        raise InputError(f"op {op!r} returns {', '.join(given) or 'nothing'}; possible are one or more Tensors")
    if len(given) != len(outputs):
        raise InputError(
            f"op {op!r} returns {len(given)} tensors, but its outputs are {', '.join(outputs)}; "
            "name each: CustomOp(…, outputs=(…))"
        )
    defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
    signature = Signature(op, arguments, tuple(Port(name, types.get(name)) for name in outputs), defaults)
    _check(signature, types, lengths)
    return signature


def _argument(op: str, argument: Any, types: Mapping[str, str], lengths: Mapping[str, int]) -> Argument:
    name, kind = argument.name, str(argument.type)
    if argument.alias_info is not None:
        raise InputError(f"op {op!r}: argument {name!r} is changed in place; return a new tensor instead")
    ports: tuple[Port, ...] = ()
    if kind in ("Tensor", "Optional[Tensor]"):
        ports = (Port(name, types.get(name), optional=kind != "Tensor"),)
    elif kind == "List[Tensor]":
        if lengths.get(name, 0) < 1:
            raise InputError(
                f"op {op!r}: argument {name!r} is a list of tensors; state how many: "
                f"CustomOp(…, lengths={{{name!r}: 2}})"
            )
        ports = tuple(Port(f"{name}_{i}", types.get(name)) for i in range(lengths[name]))
    elif kind not in ATTRIBUTE_TYPES:
        raise InputError(f"op {op!r}: argument {name!r} has the type {kind}; possible are {POSSIBLE}")
    return Argument(name, kind, ports, argument.kwarg_only)


def _check(signature: Signature, types: Mapping[str, str], lengths: Mapping[str, int]) -> None:
    """Raise InputError for statements that do not fit the operator."""
    op, ports = signature.op, (*signature.inputs, *signature.outputs)
    tensors = [argument.name for argument in signature.arguments if argument.ports]
    lists = [argument.name for argument in signature.arguments if argument.kind == "List[Tensor]"]
    known = (*tensors, *(port.name for port in signature.outputs))
    for name, dtype in types.items():
        if name not in known:
            raise InputError(f"op {op!r}: types names {name!r}, which is none of its tensors: {', '.join(known)}")
        if dtype not in FIXED_TYPES:
            raise InputError(f"op {op!r}: types gives {name!r} the type {dtype!r}; use one of {', '.join(FIXED_TYPES)}")
    for name in lengths:
        if name not in lists:
            raise InputError(f"op {op!r}: lengths names {name!r}, which is no list of tensors among its arguments")
    names = [port.name for port in ports]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"op {op!r} has several tensors named {repeated[0]!r}; rename one, outputs in CustomOp")
    alone = [port.name for port in ports if port.dtype is None]
    if alone and signature.shared is None:
        raise InputError(
            f"op {op!r}: {alone[0]!r} has the floating-point type of the inputs, but none that is always there has it; "
            f"state a type of its own: CustomOp(…, types={{{alone[0]!r}: 'float32'}})"
        )
