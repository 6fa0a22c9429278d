"""Finding plugins and asking them: built-in modules, installed entry points, files given by the user."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import typer

from toolkit import hookspecs
from toolkit.errors import InputError
from toolkit.specs import Submodule

if TYPE_CHECKING:
    import torch

    from toolkit.config import ModelConfig
    from toolkit.ops.spec import CustomOp

ENTRY_POINT_GROUP = "uniad_toolkit"
BUILTIN_PLUGINS = (
    "custom_ops.plugin",
    "plugins.image_encoder.plugin",
    "plugins.bev_encoder.plugin",
    "plugins.tracking.plugin",
    "plugins.map_segmentation.plugin",
    "plugins.motion.plugin",
    "plugins.occupancy.plugin",
    "plugins.planning.plugin",
    "toolkit.cli.convert",
    "toolkit.cli.run",
    "toolkit.cli.replay",
    "toolkit.cli.demo",
)


class PluginManager:
    """Typed questions to all registered plugins."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        self.files: dict[Path, str] = {}

    @classmethod
    def load(cls, files: Sequence[Path] = (), builtin: Sequence[str] = BUILTIN_PLUGINS) -> PluginManager:
        """Register built-in plugins, entry points of group ``uniad_toolkit``, and plugin files.

        Raises InputError for a plugin that cannot be imported or implements a hook that does not exist.
        """
        manager = cls()
        for name in builtin:
            manager.register(importlib.import_module(name), name)
        try:
            manager._pluggy.load_setuptools_entrypoints(ENTRY_POINT_GROUP)
        except Exception as error:
            raise InputError(f"an installed plugin cannot be imported: {error}; reinstall or uninstall it") from error
        for path in dict.fromkeys(files):
            manager.register_file(path)
        manager.check()
        return manager

    def register(self, plugin: object, name: str) -> None:
        """Add a plugin. Raises InputError if it asks a hook for arguments that the hook does not have."""
        try:
            self._pluggy.register(plugin, name)
        except pluggy.PluginValidationError as error:
            raise plugin_error(error) from error

    def register_file(self, path: Path) -> None:
        """Import a Python file as a plugin. Raises InputError if it cannot be imported."""
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"plugin file {path}: {error.strerror}; give the path of a Python file") from error
        spec = importlib.util.spec_from_file_location(f"uniad_plugin_{path.stem}_{digest[:8]}", path)
        if spec is None or spec.loader is None:
            raise InputError(f"plugin file {path}: not a Python file; give a file that ends in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise InputError(f"plugin file {path}: cannot be imported: {type(error).__name__}: {error}") from error
        self.register(module, str(path))
        self.files[path] = digest

    def check(self) -> None:
        """Refuse implementations of hooks that do not exist."""
        try:
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            raise plugin_error(error) from error

    def submodules(self) -> tuple[Submodule, ...]:
        """All submodules, replaced ones left out. Raises InputError for clashing names or a vain replacement."""
        offered: list[Submodule] = [s for group in reversed(self._ask("uniad_submodules")) for s in group]
        names = Counter(s.name for s in offered)
        clashes = sorted(name for name, count in names.items() if count > 1)
        if clashes:
            raise InputError(
                f"two plugins offer a submodule named {clashes[0]!r}; rename one; its `replaces` may name the other"
            )
        replaced = Counter(s.replaces for s in offered if s.replaces is not None)
        for name, count in replaced.items():
            if name not in names:
                raise InputError(
                    f"a plugin replaces submodule {name!r}, which does not exist; known: {', '.join(names)}"
                )
            if count > 1:
                raise InputError(f"{count} plugins replace submodule {name!r}; load only one of them")
        return tuple(s for s in offered if s.name not in replaced)

    def custom_ops(self) -> tuple[CustomOp, ...]:
        """All custom ops. Raises InputError for clashing names."""
        ops: list[CustomOp] = [op for group in reversed(self._ask("uniad_custom_ops")) for op in group]
        clashes = sorted(name for name, count in Counter(op.name for op in ops).items() if count > 1)
        if clashes:
            raise InputError(f"two plugins offer a custom op named {clashes[0]!r}; rename one")
        return tuple(ops)

    def filter_checkpoint(
        self, state_dict: Mapping[str, torch.Tensor], config: ModelConfig
    ) -> Mapping[str, torch.Tensor]:
        """The state dict as the network expects it: every plugin's filter is applied, in the order of loading."""
        for implementation in self._pluggy.hook.uniad_checkpoint_filter.get_hookimpls():
            arguments = {"state_dict": state_dict, "config": config}
            mapped: Any = implementation.function(*(arguments[name] for name in implementation.argnames))
            state_dict = state_dict if mapped is None else mapped
        return state_dict

    def add_commands(self, app: typer.Typer) -> None:
        self._ask("uniad_commands", app=app)

    def origin(self, submodule: Submodule) -> str:
        """The plugin that offers a submodule: a module's dotted name, an entry point's name or a file's path."""
        for name, plugin in self._pluggy.list_name_plugin():
            offer = getattr(plugin, "uniad_submodules", None)
            if offer is not None and any(s.name == submodule.name for s in offer()):
                return name
        raise KeyError(submodule.name)

    def _ask(self, hook: str, **arguments: Any) -> list[Any]:
        answers: list[Any] = getattr(self._pluggy.hook, hook)(**arguments)
        return answers


def plugin_error(error: pluggy.PluginValidationError) -> InputError:
    """What pluggy found wrong with a plugin, on one line."""
    reason = " ".join(str(error).split())
    return InputError(f"plugin error: {reason}; the hooks are listed in docs/submodule-plugins.md")
