"""The places that plugins come from: the toolkit's own modules, installed packages, files."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from toolkit.errors import InputError
from toolkit.storage.files import sha256_file
from toolkit.storage.regular_file import read_regular
from toolkit.text import one_line
from toolkit.versions import PACKAGE

ENTRY_POINT_GROUP = "uniad_toolkit"
MAX_PLUGIN_BYTES = 2**24


@dataclass(frozen=True)
class InstalledPackage:
    """The package that an installed plugin comes from, with a digest of the files of its module's top folder."""

    name: str
    version: str
    sha256: str


def import_builtin(name: str) -> ModuleType:
    """A module of the toolkit. Raises InputError if a package that it needs is missing or broken."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise InputError(
            f"built-in plugin {name} cannot be imported: {one_line(error)}; install {PACKAGE} with its requirements"
        ) from error


def installed_plugins() -> tuple[EntryPoint, ...]:
    """Entry points of group ``uniad_toolkit``. Raises InputError if two packages use one name."""
    by_name: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        other = by_name.setdefault(entry_point.name, entry_point)
        if other is not entry_point:
            raise InputError(
                f"{entry_point_source(other)} and {entry_point_source(entry_point)} both hold a plugin named "
                f"{entry_point.name!r}; uninstall one of them"
            )
    return tuple(by_name.values())


def entry_point_source(entry_point: EntryPoint) -> str:
    """Name and version of the package that declares an entry point."""
    distribution = entry_point.dist
    return f"{distribution.name} {distribution.version}" if distribution is not None else entry_point.value


def installed_package(entry_point: EntryPoint) -> InstalledPackage:
    """The package of an entry point that was loaded."""
    spec = importlib.util.find_spec(entry_point.module.partition(".")[0])
    assert spec is not None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = {path.relative_to(folder): path for folder in folders for path in folder.rglob("*") if path.is_file()}
    if not folders and spec.origin is not None:
        files = {Path(Path(spec.origin).name): Path(spec.origin)}
    digest = hashlib.sha256()
    for name in sorted(name for name in files if "__pycache__" not in name.parts):
        digest.update(f"{name.as_posix()} {sha256_file(files[name])}\n".encode())
    distribution = entry_point.dist
    named = (distribution.name, distribution.version) if distribution is not None else (entry_point.value, "")
    return InstalledPackage(*named, digest.hexdigest())


def import_file(path: Path) -> tuple[ModuleType, str]:
    """A Python file as a module, and the file's sha256. Raises InputError if it cannot be read or imported."""
    try:
        digest = hashlib.sha256(read_regular(path, MAX_PLUGIN_BYTES)).hexdigest()
    except OSError as error:
        raise InputError(f"plugin file {path}: {error.strerror}; give the path of a Python file") from error
    spec = importlib.util.spec_from_file_location(f"uniad_plugin_{path.stem}_{digest[:8]}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"plugin file {path}: not a Python file; give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except InputError as error:
        raise InputError(f"plugin file {path}: {error}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"plugin file {path}: cannot be imported: {one_line(error)}; repair it") from error
    return module, digest
