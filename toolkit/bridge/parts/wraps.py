"""Looking at what a method is given and gives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from toolkit.bridge.parts.environment import BridgeError

MARK = "wrapped_by_uniad_bridge"


def wrap(
    owner: Any,
    name: str,
    before: Callable[[dict[str, Any]], None] | None = None,
    after: Callable[[Any], None] | None = None,
) -> Callable[[], None]:
    """Wrap a method of one object; gives what takes the wrap away. Raises BridgeError if there is no such method.

    `before` takes a call's arguments by their names, `after` what the call gave.
    """
    original = getattr(owner, name, None)
    if original is None:
        raise BridgeError(f"{type(owner).__name__} has no method {name}; is it a model of UniAD?")
    own = vars(owner).get(name)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(named(signature, args, kwargs))
        result = original(*args, **kwargs)
        if after is not None:
            after(result)
        return result

    vars(wrapped)[MARK] = True
    setattr(owner, name, wrapped)
    return lambda: delattr(owner, name) if own is None else setattr(owner, name, own)


def is_wrapped(owner: Any, name: str) -> bool:
    return hasattr(getattr(owner, name, None), MARK)


def named(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments by name, those of a parameter like **others among them."""
    arguments = dict(signature.bind(*args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
    return arguments
