"""Plugins and the hooks they implement: who is registered, who answers, and who fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

import pluggy

from toolkit import hookspecs
from toolkit.errors import InputError
from toolkit.plugin.sources import InstalledPackage, entry_point_source, import_file, installed_package
from toolkit.plugin.trace import attach_trace
from toolkit.text import one_line

Offer = TypeVar("Offer")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """A registered plugin: its name, what holds it (a package and its version, or a file), the hooks it implements."""

    name: str
    source: str
    hooks: tuple[str, ...]


class PluginRegistry:
    """Registered plugins, asked one by one, so that whatever goes wrong has a name.

    An installed plugin that fails is skipped from then on, and `warn` gets one line; `skipped` keeps the reason. With
    `strict` its failure is an InputError, as that of any other plugin. `trace` gets one line for every hook call.
    """

    def __init__(
        self,
        *,
        strict: bool = False,
        warn: Callable[[str], None] = logger.warning,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
        self._pluggy.add_hookspecs(hookspecs)
        if trace is not None:
            attach_trace(self._pluggy, trace)
        self._strict = strict
        self._warn = warn
        self._sources: dict[str, str] = {}
        self._installed: dict[str, EntryPoint] = {}
        self.files: dict[Path, str] = {}
        self.skipped: dict[str, str] = {}

    def register(self, plugin: object, name: str, source: str = "registered in Python") -> None:
        """Add a plugin.

        Raises InputError if its name is taken, or if it implements a hook, or takes an argument, that does not exist.
        """
        other = self._pluggy.get_name(plugin) or (name if self._pluggy.has_plugin(name) else None)
        if other is not None:
            raise InputError(
                f"plugin {name!r} ({source}) is already there as {other!r} ({self._sources[other]}); load one of them"
            )
        self._sources[name] = source
        try:
            self._pluggy.register(plugin, name)
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"plugin error: {reason}; `uniad-toolkit plugins` lists the hooks") from error

    def register_installed(self, entry_point: EntryPoint) -> None:
        """Load an entry point as a plugin that is skipped when it fails. Raises InputError for that if `strict`."""
        name, source = entry_point.name, entry_point_source(entry_point)
        self._sources[name] = source
        self._installed[name] = entry_point
        with self.answerable(name, "cannot be loaded"):
            self.register(entry_point.load(), name, source)

    def register_file(self, path: Path) -> None:
        """Import a Python file as a plugin; warn if it contributes nothing, or has a hook that is not marked.

        Raises InputError if it cannot be imported.
        """
        module, digest = import_file(path)
        self.register(module, str(path), "a file")
        self.files[path] = digest
        implemented = [caller.name for caller in self._pluggy.get_hookcallers(module) or ()]
        unmarked = [name for name in hookspecs.hook_questions() if hasattr(module, name) and name not in implemented]
        for name in unmarked:
            self._warn(f"plugin file {path}: {name} is not marked with @hookimpl and is not used; mark it")
        if not implemented and not unmarked:
            self._warn(
                f"plugin file {path} contributes nothing: it has no function that is a hook, marked with @hookimpl; "
                "`uniad-toolkit plugins` lists the hooks"
            )

    def disable(self, name: str) -> None:
        """Leave out the plugin of this name when it is registered."""
        self._pluggy.set_blocked(name)

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin in use, in the order of loading."""
        return tuple(
            Plugin(name, self._sources[name], tuple(c.name for c in self._pluggy.get_hookcallers(plugin) or ()))
            for name, plugin in self._pluggy.list_name_plugin()
            if plugin is not None
        )

    @property
    def disabled(self) -> tuple[str, ...]:
        """Names of plugins that were left out on request."""
        return tuple(name for name, plugin in self._pluggy.list_name_plugin() if plugin is None)

    def package(self, name: str) -> InstalledPackage | None:
        """The package of an installed plugin; None for any other."""
        return installed_package(self._installed[name]) if name in self._installed else None

    def offers(self, hook: str, kind: type[Offer]) -> tuple[tuple[str, Offer], ...]:
        """What plugins answer to a hook that asks for a sequence of `kind`, each with the name of its plugin."""
        offers: list[tuple[str, Offer]] = []
        for name in self.implementers(hook):
            with self.answerable(name, f"fails in {hook}"):
                answer = self.ask(name, hook) or ()
                if not isinstance(answer, Sequence) or not all(isinstance(item, kind) for item in answer):
                    raise TypeError(f"its answer must be a sequence of {kind.__name__}")
                offers += [(name, item) for item in answer]
        return tuple(offers)

    def implementers(self, hook: str) -> tuple[str, ...]:
        """Names of the plugins that implement a hook, in the order of loading (`tryfirst` and `trylast` considered)."""
        return tuple(implementation.plugin_name for implementation in getattr(self._pluggy.hook, hook).get_hookimpls())

    def ask(self, name: str, hook: str, **arguments: Any) -> Any:
        """One plugin's answer. Plugins are asked one by one, so that whatever goes wrong has a name."""
        others = [plugin for other, plugin in self._pluggy.list_name_plugin() if other != name]
        answers = self._pluggy.subset_hook_caller(hook, others)(**arguments)
        return answers[0] if answers else None

    @contextmanager
    def answerable(self, name: str, fault: str, *, optional: bool = True) -> Iterator[None]:
        """Name the plugin that fails in the block. An installed one, if `optional`, is skipped from then on."""
        try:
            yield
        except (Exception, SystemExit) as error:
            reason = str(error) if isinstance(error, InputError) else one_line(error)
            message = f"plugin {name!r} ({self._sources[name]}) {fault}: {reason}"
            if self._strict or not optional or name not in self._installed:
                raise InputError(f"{message}; repair it or leave it out") from error
            if self._pluggy.has_plugin(name):
                self._pluggy.unregister(name=name)
            self.skipped[name] = f"{fault}: {reason}"
            self._warn(f"{message}; it is skipped: repair or uninstall it, or pass --disable-plugin {name}")
