"""The core knows no submodule, op or tensor by name: whatever it must know, plugins tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from toolkit.plugin.manager import BUILTIN_PLUGINS, PluginManager

REPOSITORY = Path(__file__).parents[2]
REFERENCE = (
    "toolkit/reference_interface/tensors.py",
    "toolkit/reference_interface/boundary.py",
    "toolkit/config/official/keys.py",
    "toolkit/bridge/parts/",
)
"""The reference's names: tables that have one of ours for each, and what runs beside the reference."""
OPS_OF_OTHERS = ("toolkit/graph/deformable_attention/", "toolkit/graph/vendor/")
"""Graph passes that find these ops in models of any origin, offered through a hook like any plugin's."""
TERMS = (
    "toolkit/specs.py",
    "toolkit/quantization/gates.py",
    "toolkit/runtime/results.py",
    "toolkit/runtime/result_reader.py",
    "toolkit/runtime/result_writer.py",
    "toolkit/verification/gates.py",
    "toolkit/verification/report_file.py",
    "toolkit/verification/sense.py",
    "toolkit/visualize/rerun_log.py",
)
"""Typed results, decisions, and their files, whose fields are called as some tensors are: `plan`, `occupancy`."""


def test_no_name_of_a_plugin_is_in_the_core() -> None:
    names = plugin_names()
    excepted = (*REFERENCE, *OPS_OF_OTHERS, *TERMS)
    found = [
        f"{path}:{line}: {text}"
        for path, tree in modules()
        if not path.startswith(excepted)
        for line, text in texts(tree)
        if text in names
    ]
    assert found == []


def test_the_core_imports_no_plugin() -> None:
    """The plugin manager knows the toolkit's own by their modules' names, and imports them by these."""
    found = [
        f"{path}: {name}"
        for path, tree in modules()
        for name in imports(tree)
        if name.partition(".")[0] in ("plugins", "custom_ops")
    ]
    assert found == []


def test_what_is_excepted_exists() -> None:
    assert all((REPOSITORY / path).exists() for path in (*REFERENCE, *OPS_OF_OTHERS, *TERMS))
    assert all((REPOSITORY / f"{name.replace('.', '/')}.py").is_file() for name in BUILTIN_PLUGINS)


def plugin_names() -> set[str]:
    """Names of everything that the toolkit's own plugins bring."""
    plugins = PluginManager.load()
    submodules = plugins.submodules()
    names = {op.name for op in plugins.custom_ops()}
    for submodule in submodules:
        names |= {submodule.name, *(spec.name for spec in submodule.outputs), *(s.input for s in submodule.states)}
    return names


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Path and content of every module of the core."""
    for path in sorted((REPOSITORY / "toolkit").rglob("*.py")):
        yield path.relative_to(REPOSITORY).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Names of the modules that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and value of every text in a module that is no description."""
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.lineno, node.value
