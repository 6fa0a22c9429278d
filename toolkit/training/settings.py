"""`--set key=value`: settings of the training, and options of the submodules' own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.errors import InputError
from toolkit.text import quoted
from toolkit.training.config import FIELDS, TrainingConfig
from toolkit.training.spec import Option

if TYPE_CHECKING:
    from toolkit.specs import Submodule

Options = dict[str, dict[str, Option]]
"""By submodule, the values of its options by name."""


def default_options(submodules: Iterable[Submodule]) -> Options:
    """What the submodules' options are, unless somebody sets them."""
    return {each.name: dict(each.training().options) for each in submodules if each.training is not None}


def with_settings(config: TrainingConfig, options: Options, pairs: Sequence[str]) -> tuple[TrainingConfig, Options]:
    """Both with what `--set` says. Raises InputError for an unknown key, and a value that cannot be."""
    options = {name: dict(values) for name, values in options.items()}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not (key and equals and text):
            raise InputError(f"--set {quoted(pair)} is not key=value")
        owners = [name for name, values in options.items() if key in values]
        value = _value(text)
        if key == "stage":
            raise InputError(f"--set {quoted(pair)}: give --stage, and a config of that stage")
        if key in FIELDS:
            try:
                config = config.with_setting(key, value)
            except ValueError as error:
                raise InputError(f"--set {quoted(pair)}: {error!s:.200}") from error
        elif owners:
            for name in owners:
                options[name][key] = _option(pair, value, options[name][key])
        else:
            known = sorted({*FIELDS, *(option for values in options.values() for option in values)})
            raise InputError(f"--set {quoted(pair)}: there is no setting {quoted(key)}; known: {', '.join(known)}")
    return config, options


def _value(text: str) -> Any:
    """A number, True, False or a dict as Python writes it; else the text itself."""
    try:
        return ast.literal_eval(text[:1000])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _option(pair: str, value: Any, default: Option) -> Option:
    if isinstance(default, bool):
        if isinstance(value, bool | int) and value in (0, 1):
            return bool(value)
        raise InputError(f"--set {quoted(pair)} must be True or False")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"--set {quoted(pair)} must be a number from 0 to 1")
    return float(value)
