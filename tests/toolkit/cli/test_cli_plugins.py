"""What `uniad-toolkit plugins` and the options and variable about plugins show."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cli.main import run
from toolkit.plugin.manager import PluginManager

pytestmark = pytest.mark.thorough

PLANNER = """
from dataclasses import replace
from plugins.planning.plugin import SUBMODULE
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_submodules():
    return (replace(SUBMODULE, name="pilot", replaces="planning"),)

@hookimpl
def uniad_checkpoint_filter(state_dict):
    return None
"""


@pytest.fixture
def planner(tmp_path: Path) -> Path:
    """A plugin file that replaces the planner and filters checkpoints."""
    path = tmp_path / "pilot.py"
    path.write_text(PLANNER)
    return path


@pytest.fixture
def broken_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package `wheels` 2.0 whose plugin cannot be imported."""
    information = tmp_path / "site" / "wheels-2.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: wheels\nVersion: 2.0\n")
    (information / "entry_points.txt").write_text("[uniad_toolkit]\nwheels = module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_hooks_and_who_implements_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    hooks = {line.split(":")[0]: lines[i + 1] for i, line in enumerate(lines) if line.startswith("uniad_")}
    assert hooks["uniad_custom_ops"] == "  implemented by custom_ops.plugin"
    assert hooks["uniad_checkpoint_filter"] == "  implemented by nobody"
    assert "plugins.motion.plugin, plugins.occupancy.plugin" in hooks["uniad_submodules"]


def test_plugins_and_what_they_contribute(planner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By package and version, or by file."""
    assert run(["plugins", "--plugin", str(planner)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("plugins from uniad-toolkit ") for line in lines)
    ops = (
        "MultiScaleDeformableAttention",
        "Rotate",
        "Inverse",
        "ModulatedDeformableConvolution",
        "UnevenDeformableAttention",
    )
    assert f"  custom_ops.plugin: {', '.join(f'custom op {op}' for op in ops)}" in lines
    assert "  toolkit.cli.convert: command convert" in lines
    assert "  plugins.planning.plugin: submodule planning (replaced by pilot), metric planning" in lines
    assert "plugins from a file" in lines
    assert f"  {planner}: submodule pilot in place of planning, checkpoint filter" in lines


def test_graph_passes_and_assets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (passes,) = (line for line in lines if line.startswith("  toolkit.graph.plugin: "))
    offered = [f"graph pass {each.name}" for each in PluginManager.load().graph_passes()]
    assert passes.partition(": ")[2].split(", ") == offered
    assert "  plugins.motion.plugin: submodule motion, asset motion_head.motion_anchors, metric motion" in lines


def test_disabled_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "--disable-plugin", "plugins.planning.plugin"]) == 0
    printed = capsys.readouterr().out
    assert "submodule planning" not in printed
    assert "not in use\n  plugins.planning.plugin: disabled by --disable-plugin\n" in printed


@pytest.mark.usefixtures("broken_package")
def test_broken_package_is_skipped_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins"]) == 0
    captured = capsys.readouterr()
    (warning,) = captured.err.splitlines()
    assert warning.startswith("warning: plugin 'wheels' (wheels 2.0) cannot be loaded: ModuleNotFoundError")
    assert "not in use\n  wheels: cannot be loaded: ModuleNotFoundError" in captured.out


@pytest.mark.usefixtures("broken_package")
def test_broken_package_is_fatal_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "--strict-plugins"]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: plugin 'wheels' (wheels 2.0) cannot be loaded")


@pytest.mark.usefixtures("broken_package")
def test_broken_package_can_be_disabled(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins", "--strict-plugins", "--disable-plugin", "wheels"]) == 0
    assert capsys.readouterr().err == ""


def test_graph_passes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plugins"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  toolkit.graph.plugin: ")]
    assert "graph pass remove-identities" in line


def test_contradiction_is_shown_and_refused(planner: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The list tells who is concerned."""
    other = planner.with_name("other.py")
    other.write_text(PLANNER)
    assert run(["plugins", "--plugin", str(planner), "--plugin", str(other)]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("submodule pilot in place of planning") == 2
    assert "both offer a submodule named 'pilot'" in captured.err


@pytest.mark.parametrize(("value", "traced"), [("1", True), ("0", False), ("", False)])
def test_trace_variable(
    value: str, traced: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNIAD_TOOLKIT_TRACE", value)
    assert run(["plugins"]) == 0
    errors = capsys.readouterr().err
    assert ("trace: uniad_submodules() of plugins.planning.plugin: [planning] [" in errors) is traced
    assert bool(errors) is traced
