"""Where plugins come from, what they may say, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toolkit.config import ModelConfig
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.ops.spec import CustomOp
from toolkit.plugin_manager import PluginManager
from toolkit.specs import Submodule

OFFER = """
from dataclasses import dataclass
from toolkit.hookspecs import hookimpl
from toolkit.specs import Submodule

@hookimpl
def uniad_submodules():
    return (Submodule("wheels", ("wheels.",), (), (), build=None),)
"""

WriteFile = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    """Writes a source text to a file of the given name, and returns its path."""

    def write(source: str, name: str = "wheels.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    return write


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
    assert [op.name for op in manager.custom_ops()] == ["MultiScaleDeformableAttention", "Rotate", "Inverse"]
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


def test_installed_package_is_a_plugin(write: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point of group `uniad_toolkit`."""
    write(OFFER, "uniad_wheels.py")
    write("Metadata-Version: 2.1\nName: wheels\nVersion: 1\n", "wheels-1.dist-info/METADATA")
    write("[uniad_toolkit]\nwheels = uniad_wheels\n", "wheels-1.dist-info/entry_points.txt")
    monkeypatch.syspath_prepend(tmp_path)
    manager = PluginManager.load(builtin=())
    (wheels,) = manager.submodules()
    assert manager.origin(wheels) == "wheels"


def test_broken_installed_package(write: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("Metadata-Version: 2.1\nName: wheels\nVersion: 1\n", "wheels-1.dist-info/METADATA")
    write("[uniad_toolkit]\nwheels = module_that_is_not_there\n", "wheels-1.dist-info/entry_points.txt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"installed plugin cannot be imported: .*module_that_is_not_there.*reinstall"):
        PluginManager.load(builtin=())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", r"cannot be imported: SyntaxError: .*line 1"),
        ("import module_that_is_not_there", "cannot be imported: ModuleNotFoundError"),
        (OFFER.replace("uniad_submodules()", "uniad_submodule()"), "unknown hook 'uniad_submodule'"),
        (
            OFFER.replace("uniad_submodules()", "uniad_submodules(wheels)"),
            r"Argument\(s\) \{'wheels'\}.*hooks are listed",
        ),
    ],
    ids=["syntax error", "missing import", "unknown hook", "unknown argument"],
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
    with pytest.raises(InputError, match="2 plugins replace submodule 'planner'; load only one"):
        managed(Offer(planner), *rivals).submodules()


def test_replacing_what_does_not_exist_is_refused(planner: Submodule) -> None:
    with pytest.raises(InputError, match="replaces submodule 'pilot', which does not exist; known: planner"):
        managed(Offer(replace(planner, replaces="pilot"))).submodules()


def test_two_submodules_of_one_name_are_refused(planner: Submodule) -> None:
    with pytest.raises(InputError, match="two plugins offer a submodule named 'planner'; rename one"):
        managed(Offer(planner), Offer(planner)).submodules()


def test_two_custom_ops_of_one_name_are_refused() -> None:
    class Ops:
        @hookimpl
        def uniad_custom_ops(self) -> Sequence[CustomOp]:
            return PluginManager.load().custom_ops()[:1]

    with pytest.raises(InputError, match="two plugins offer a custom op named 'MultiScaleDeformableAttention'"):
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
