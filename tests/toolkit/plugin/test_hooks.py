"""Every hook is described, typed, tested and documented; and the documentation of submodules is true."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from toolkit import hookspecs
from toolkit.config.model import ModelConfig
from toolkit.plugin.manager import PluginManager
from toolkit.specs import FRAME_INPUTS, Submodule, TensorSpec
from toolkit.wiring import join

REPOSITORY = Path(__file__).parents[3]
DOCUMENTATION = (REPOSITORY / "docs/submodule-plugins.md").read_text(encoding="utf-8")
TESTS = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("*.py")]

HOOKS = {name: item for name, item in vars(hookspecs).items() if hasattr(item, f"{hookspecs.PROJECT}_spec")}
every_hook = pytest.mark.parametrize("hook", HOOKS.values(), ids=HOOKS)


def code_blocks(language: str) -> str:
    """All code of one language in the documentation."""
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", DOCUMENTATION, re.DOTALL))


def documented_hooks() -> dict[str, list[str]]:
    """Name and parameter names of each function that the documentation declares."""
    declared = re.findall(r"def (uniad_\w+)\((.*?)\) ->", code_blocks("python"), re.DOTALL)
    return {name: re.findall(r"(\w+):", parameters) for name, parameters in declared}


def documented_fields() -> set[str]:
    """Names in the first column of the table about `Submodule`."""
    table = DOCUMENTATION.partition("| Field |")[2].partition("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}


def documented_tensors() -> dict[str, tuple[str, str]]:
    """Name -> (shape, dtype) of each tensor in the tables of the documentation."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| (float32|int32|int64|bool) \|", DOCUMENTATION, re.MULTILINE)
    return {name: (shape, dtype) for name, shape, dtype in rows}


def documented_dimensions() -> dict[str, int]:
    """Name -> default of each dimension in the table of the documentation, which has them side by side."""
    cells = re.findall(r"\| `(\w+)` \| (\d+) (?=\| \||\|$)", DOCUMENTATION, re.MULTILINE)
    return {name: int(value) for name, value in cells}


@every_hook
def test_hook_is_described(hook: Callable[..., Any]) -> None:
    assert hook.__doc__


@every_hook
def test_hook_is_typed(hook: Callable[..., Any]) -> None:
    signature = inspect.signature(hook)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())


@every_hook
def test_hook_is_implemented_in_some_test(hook: Callable[..., Any]) -> None:
    assert any(f"def {hook.__name__}(" in source for source in TESTS)


def test_documentation_declares_every_hook_and_no_other() -> None:
    assert documented_hooks() == {name: list(inspect.signature(hook).parameters) for name, hook in HOOKS.items()}


def test_documentation_explains_every_field_of_a_submodule_and_no_other() -> None:
    assert documented_fields() == {field.name for field in fields(Submodule)}


def test_documentation_lists_every_tensor_and_no_other() -> None:
    """With its shape and type."""

    def described(spec: TensorSpec) -> tuple[str, str]:
        return ", ".join(map(str, spec.shape)), spec.dtype

    graph = join(PluginManager.load().submodules(), ModelConfig())
    assert documented_tensors() == {spec.name: described(spec) for spec in (*FRAME_INPUTS, *graph.outputs)}


def test_documentation_lists_every_dimension_and_no_other() -> None:
    assert documented_dimensions() == ModelConfig().dimensions()


def test_documentation_names_the_entry_point_group() -> None:
    assert f"[project.entry-points.{hookspecs.PROJECT}]" in code_blocks("toml")
