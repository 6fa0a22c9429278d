"""Where plugins come from, what they may say, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor

from toolkit.bundle import Bundle
from toolkit.config.model import ModelConfig
from toolkit.conversion.convert import describe
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.ops.spec import CustomOp
from toolkit.plugin.manager import PluginManager
from toolkit.plugin.registry import Plugin
from toolkit.specs import Submodule
from toolkit.wiring import join

OFFER = """
from dataclasses import dataclass
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule
from toolkit.wiring import join

@hookimpl
def uniad_submodules():
    return (Submodule("wheels", ("wheels.",), (), (), build=None),)
"""

COMMAND = """
import typer
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_commands(app: typer.Typer) -> None:
    @app.command()
    def roll(turns: int) -> None: ...
"""

FILTER = """
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_checkpoint_filter(state_dict):
    return {"wheels": state_dict["spare"]}
"""

WriteFile = Callable[..., Path]
Install = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes a source text to a file of the given name, and returns its path."""

    def write(source: str, name: str = "wheels.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    return write


@pytest.fixture
def install(write: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a package of one module, called with (plugin, source): its entry point and its text."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(plugin: str, source: str, *, package: str | None = None) -> None:
        package = package or plugin
        module = f"{package}_{tmp_path.name}"  # imported once in a process
        write(source, f"{module}.py")
        write(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", f"{package}-1.0.dist-info/METADATA")
        write(f"[uniad_toolkit]\n{plugin} = {module}\n", f"{package}-1.0.dist-info/entry_points.txt")

    return install


class Offer:
    """A plugin that offers the given submodules."""

    def __init__(self, *submodules: Submodule) -> None:
        self.submodules = submodules

    @hookimpl
    def uniad_submodules(self) -> Sequence[Submodule]:
        """Those given."""
        return self.submodules


def managed(*plugins: object) -> PluginManager:
    """A manager of these plugins alone."""
    manager = PluginManager()
    for number, plugin in enumerate(plugins):
        manager.register(plugin, f"plugin {number}")
    return manager


def names(manager: PluginManager) -> list[str]:
    return [s.name for s in manager.submodules()]


def test_built_in_plugins_offer_the_network_and_the_custom_ops() -> None:
    manager = PluginManager.load()
    assert names(manager) == [
        "image_encoder",
        "bev_encoder",
        "tracking",
        "map_segmentation",
        "motion",
        "occupancy",
        "planning",
    ]
    assert [op.name for op in manager.custom_ops()] == [
        "MultiScaleDeformableAttention",
        "Rotate",
        "Inverse",
        "ModulatedDeformableConvolution",
        "UnevenDeformableAttention",
    ]
    assert manager.origin(manager.submodules()[-1]) == "plugins.planning.plugin"


def test_file_is_a_plugin(write: WriteFile) -> None:
    """Its submodules come from the file, whose digest is kept."""
    path = write(OFFER)
    manager = PluginManager.load([path], builtin=())
    (wheels,) = manager.submodules()
    assert manager.origin(wheels) == str(path)
    assert [len(digest) for digest in manager.files.values()] == [64]


def test_file_given_twice_is_loaded_once(write: WriteFile) -> None:
    path = write(OFFER)
    assert names(PluginManager.load([path, path], builtin=())) == ["wheels"]


def test_file_may_define_dataclasses(write: WriteFile) -> None:
    """With postponed annotations, they look up the module that they are in."""
    path = write("from __future__ import annotations\n" + OFFER + "\n@dataclass\nclass Size:\n    radius: float\n")
    assert names(PluginManager.load([path], builtin=())) == ["wheels"]


def test_installed_package_is_a_plugin(install: Install) -> None:
    """By an entry point of group `uniad_toolkit`."""
    install("wheels", OFFER)
    manager = PluginManager.load(builtin=())
    (wheels,) = manager.submodules()
    assert manager.origin(wheels) == "wheels"
    assert manager.plugins == (Plugin("wheels", "wheels 1.0", ("uniad_submodules",)),)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import module_that_is_not_there", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("raise SystemExit", "cannot be loaded: SystemExit"),
        (OFFER.replace("uniad_submodules()", "uniad_submodule()"), "cannot be loaded: plugin error: unknown hook"),
        (OFFER.replace("return", "raise ValueError"), "fails in uniad_submodules: ValueError: "),
        (OFFER.replace("return (", "return [1]  #"), "must be a sequence of Submodule"),
        (COMMAND.replace("@app", "1 / 0\n    @app"), "fails in uniad_commands: ZeroDiv"),
        (COMMAND.replace("turns: int", "turns: int | str"), "fails in uniad_commands: "),
    ],
    ids=["import", "exit", "unknown hook", "submodules", "wrong answer", "commands", "unusable command"],
)
def test_failing_installed_plugin_is_skipped(source: str, fault: str, install: Install) -> None:
    """With one warning, however often plugins are asked; others go on."""
    install("wheels", source)
    install("wings", OFFER.replace("wheels", "wings"))
    warnings: list[str] = []
    manager = PluginManager.load(builtin=(), warn=warnings.append)
    for _ in range(2):
        assert names(manager) == ["wings"]
        manager.add_commands(typer.Typer())
    (warning,) = warnings
    assert "plugin 'wheels' (wheels 1.0)" in warning
    assert fault in warning
    assert warning.endswith("it is skipped: repair or uninstall it, or pass --disable-plugin wheels")
    assert fault in manager.skipped["wheels"]
    assert [plugin.name for plugin in manager.plugins] == ["wings"]


def test_failing_installed_plugin_is_fatal_if_strict(install: Install) -> None:
    install("wheels", "import module_that_is_not_there")
    with pytest.raises(
        InputError, match=r"plugin 'wheels' \(wheels 1.0\) cannot be loaded: .*; repair it or leave it out"
    ):
        PluginManager.load(builtin=(), strict=True)


REPLACEMENT = """
from dataclasses import replace
from plugins.planning.plugin import SUBMODULE
from toolkit.hookspecs import hookimpl

@hookimpl
def uniad_submodules():
    return (replace(SUBMODULE, name="pilot", replaces="planning"),)
"""


def test_installed_replacement_is_told(install: Install, write: WriteFile) -> None:
    """Nobody asked for it on the command line. What a file replaces is known to whoever gave the file."""
    install("wheels", REPLACEMENT)
    [told] = PluginManager.load().installed_replacements()
    assert told == (
        "pilot of the installed plugin 'wheels' (wheels 1.0) stands in for planning; "
        "--disable-plugin wheels leaves it out"
    )
    path = write(REPLACEMENT, "pilot.py")
    assert PluginManager.load([path], disabled=["wheels"]).installed_replacements() == ()


def test_package_of_an_installed_plugin(install: Install) -> None:
    """Its digest is that of its code."""
    install("wheels", OFFER)
    first = PluginManager.load(builtin=()).package("wheels")
    install("wheels", OFFER + "# changed")
    second = PluginManager.load(builtin=()).package("wheels")
    assert first is not None
    assert second is not None
    assert (first.name, first.version) == ("wheels", "1.0")
    assert first.sha256 != second.sha256
    assert PluginManager.load().package("plugins.planning.plugin") is None


def test_bundle_records_the_package_of_a_submodule(install: Install, tmp_path: Path) -> None:
    install("wheels", REPLACEMENT)
    manager = PluginManager.load()
    graph = join(manager.submodules(), ModelConfig())
    (tmp_path / "bundle").mkdir()
    for name in ("model.onnx", "weights.safetensors"):
        (tmp_path / "bundle" / name).touch()
    described = describe(tmp_path / "bundle", graph, manager, (), {})
    described.write()
    [package] = Bundle.read(tmp_path / "bundle").packages
    assert (package.plugin, package.name, package.version) == ("wheels", "wheels", "1.0")
    assert package == described.packages[0]


def test_failing_file_is_always_fatal(write: WriteFile) -> None:
    path = write(OFFER.replace("return", "raise ValueError"))
    manager = PluginManager.load([path], builtin=())
    with pytest.raises(InputError, match=r"wheels\.py' \(a file\) fails in uniad_submodules: ValueError"):
        manager.submodules()


def test_failing_checkpoint_filter_is_always_fatal(install: Install) -> None:
    """Weights that an installed plugin was meant to change would go on unchanged."""
    install("wheels", FILTER)
    manager = PluginManager.load(builtin=())
    with pytest.raises(InputError, match=r"plugin 'wheels' .* fails in uniad_checkpoint_filter: KeyError: 'spare'"):
        manager.filter_checkpoint({}, ModelConfig())


def test_disabled_plugins_are_not_loaded(install: Install) -> None:
    """Built-in or installed: this one could not be imported."""
    install("wheels", "import module_that_is_not_there")
    manager = PluginManager.load(disabled=["wheels", "plugins.planning.plugin"], strict=True)
    assert "planning" not in names(manager)
    assert manager.disabled == ("wheels", "plugins.planning.plugin")


def test_disabling_what_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=r"there is no plugin 'wheels' to disable; known: custom_ops.plugin"):
        PluginManager.load(disabled=["wheels"], builtin=["custom_ops.plugin"])


def test_two_installed_plugins_of_one_name_are_refused(install: Install) -> None:
    install("wheels", OFFER)
    install("wheels", OFFER, package="wagon")
    with pytest.raises(InputError, match=r"1\.0 and \w+ 1\.0 both hold a plugin named 'wheels'; uninstall one of them"):
        PluginManager.load(builtin=())


def test_two_registered_plugins_of_one_name_are_refused() -> None:
    manager = managed(Offer())
    with pytest.raises(InputError, match=r"plugin 'plugin 0' .* is already there as 'plugin 0'"):
        manager.register(Offer(), "plugin 0")


def test_missing_requirement_of_the_toolkit(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(write("import module_that_is_not_there", "builtin_of_a_test.py").parent)
    with pytest.raises(InputError, match=r"built-in plugin builtin_of_a_test cannot be imported: .*; install uniad"):
        PluginManager.load(builtin=["builtin_of_a_test"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", r"cannot be imported: SyntaxError: .*line 1"),
        ("import module_that_is_not_there", "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        (OFFER.replace("uniad_submodules()", "uniad_submodule()"), "unknown hook 'uniad_submodule'"),
        (
            OFFER.replace("uniad_submodules()", "uniad_submodules(wheels)"),
            r"Argument\(s\) \{'wheels'\}.*lists the hooks",
        ),
    ],
    ids=["syntax error", "missing import", "exit", "unknown hook", "unknown argument"],
)
def test_unusable_file(source: str, message: str, write: WriteFile) -> None:
    """The reason comes on one line."""
    with pytest.raises(InputError, match=message) as raised:
        PluginManager.load([write(source)], builtin=())
    assert "\n" not in str(raised.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.py: No such file or directory; give the path of a Python file"):
        PluginManager.load([tmp_path / "nowhere.py"], builtin=())


def test_file_that_is_no_python(write: WriteFile) -> None:
    with pytest.raises(InputError, match=r"notes\.txt: not a Python file"):
        PluginManager.load([write("dear diary", "notes.txt")], builtin=())


def test_replacement_stands_in_for_a_submodule(odometry: Submodule, planner: Submodule) -> None:
    better = replace(planner, name="better", replaces="planner")
    assert names(managed(Offer(odometry, planner), Offer(better))) == ["odometry", "better"]
    assert names(managed(Offer(better), Offer(odometry, planner))) == ["better", "odometry"]


def test_replacement_can_be_replaced(planner: Submodule) -> None:
    better = replace(planner, name="better", replaces="planner")
    best = replace(planner, name="best", replaces="better")
    assert names(managed(Offer(planner), Offer(better), Offer(best))) == ["best"]


def test_two_replacements_are_refused(planner: Submodule) -> None:
    rivals = (Offer(replace(planner, name=name, replaces="planner")) for name in ("left", "right"))
    with pytest.raises(
        InputError, match="plugins 'plugin 1' and 'plugin 2' replace submodule 'planner'; load only one"
    ):
        managed(Offer(planner), *rivals).submodules()


def test_replacing_what_does_not_exist_is_refused(planner: Submodule) -> None:
    with pytest.raises(InputError, match="replaces submodule 'pilot', which does not exist; known: planner"):
        managed(Offer(replace(planner, replaces="pilot"))).submodules()


def test_two_submodules_of_one_name_are_refused(planner: Submodule) -> None:
    with pytest.raises(
        InputError, match="'plugin 0' and 'plugin 1' both offer a submodule named 'planner'; rename one"
    ):
        managed(Offer(planner), Offer(planner)).submodules()


def test_two_custom_ops_of_one_name_are_refused() -> None:
    class Ops:
        @hookimpl
        def uniad_custom_ops(self) -> Sequence[CustomOp]:
            return PluginManager.load().custom_ops()[:1]

    with pytest.raises(InputError, match="both offer a custom op named 'MultiScaleDeformableAttention'"):
        managed(Ops(), Ops()).custom_ops()


def test_origin_of_a_foreign_submodule_is_unknown(odometry: Submodule, planner: Submodule) -> None:
    with pytest.raises(KeyError, match="planner"):
        managed(Offer(odometry)).origin(planner)


class Rename:
    """A checkpoint filter that knows entries with one prefix, and gives them another."""

    def __init__(self, old: str, new: str) -> None:
        self.old, self.new = old, new

    @hookimpl
    def uniad_checkpoint_filter(self, state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor] | None:
        """A hook implementation may leave out arguments that it does not need."""
        if not any(key.startswith(self.old) for key in state_dict):
            return None
        return {key.replace(self.old, self.new): value for key, value in state_dict.items()}


def test_checkpoint_filters_apply_one_after_another() -> None:
    """In the order of loading; one that answers None changes nothing."""
    manager = managed(Rename("student.", "teacher."), Rename("unheard_of.", ""), Rename("teacher.", "planner."))
    filtered = manager.filter_checkpoint({"student.weight": torch.ones(1)}, ModelConfig())
    assert list(filtered) == ["planner.weight"]


def test_checkpoint_passes_unchanged_without_filters() -> None:
    checkpoint = {"planner.weight": torch.ones(1)}
    assert managed().filter_checkpoint(checkpoint, ModelConfig()) is checkpoint


def test_two_commands_of_one_name_are_refused(write: WriteFile) -> None:
    paths = [write(COMMAND, name) for name in ("left.py", "right.py")]
    with pytest.raises(InputError, match=r"left.py' and '.*right.py' both offer a command named 'roll'"):
        PluginManager.load(paths, builtin=()).add_commands(typer.Typer())


def test_trace_tells_every_call(planner: Submodule) -> None:
    """The hook, its arguments, whom it asks, the answer, the time."""
    lines: list[str] = []
    manager = PluginManager(trace=lines.append)
    manager.register(Offer(planner), "offer")
    manager.register(Rename("student.", "teacher."), "rename")
    manager.submodules()
    manager.filter_checkpoint({"student.weight": torch.ones(1)}, ModelConfig())
    manager.filter_checkpoint({}, ModelConfig())
    assert [re.sub(r" \[\d+\.\d ms\]$", "", line) for line in lines] == [
        "uniad_submodules() of offer: [planner]",
        "uniad_checkpoint_filter(state_dict=1 entries, config=ModelConfig) of rename: 1 entries",
        "uniad_checkpoint_filter(state_dict=0 entries, config=ModelConfig) of rename: no answer",
    ]


def test_trace_tells_failures(write: WriteFile) -> None:
    lines: list[str] = []
    manager = PluginManager.load([write(FILTER)], builtin=(), trace=lines.append)
    with pytest.raises(InputError):
        manager.filter_checkpoint({}, ModelConfig())
    assert "KeyError('spare')" in lines[0]
