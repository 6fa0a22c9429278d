"""The network's rewritten parts, kept on disk from one start to the next, and a place for what compilers keep.

An entry is a folder named after the network and what it was rewritten for. It holds `parts.safetensors`, and folders
that torch's compiler and Triton fill. Everything can be removed at any time: it is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from toolkit.engines.gpu.compiled.ahead import PartsJob, processes_for
from toolkit.engines.gpu.compiled.direct_record import reasons
from toolkit.engines.gpu.compiled.parts_file import UnfitFile, read_parts, write_parts
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart, rewrite_network
from toolkit.engines.torch import load_network
from toolkit.errors import InputError
from toolkit.precision import Precision
from toolkit.storage.claims import claim_file
from toolkit.storage.outputs import new_file
from toolkit.storage.private_folder import cache_folder, private_folder
from toolkit.versions import PACKAGE, installed_version

if TYPE_CHECKING:
    from toolkit.bundle import Bundle
    from toolkit.plugin.manager import PluginManager

FOLDER_VARIABLE = "UNIAD_TOOLKIT_KEPT"
"""Names another folder than the user's cache; if it is empty, nothing is kept."""
PARTS = "parts.safetensors"
ENTRY_NAME = re.compile(r"[0-9a-f]{12}-.+-[0-9a-f]{12}")
PARTS_VARIABLE = "UNIAD_TOOLKIT_COMPILE_PARTS"
"""If it is 0, torch.compile compiles the parts at every start; else processes do, once, into files to read."""
COMPILED = "compiled"
"""The folder of an entry for Inductor's code, a file for each part."""
COMPILERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Variables that tell compilers where to keep what they compile, and the folders of an entry for it."""
DEFAULT_PREFIX = "torchinductor_"
"""With which the name of the folder begins that torch's compiler uses, in the system's temporary one."""
MOST_ENTRIES = 8
MOST_BYTES = 8 * 2**30
"""Of all entries together; what was not used for longest goes first."""
VERSIONS = (PACKAGE, "torch", "triton", "cupy-cuda12x", "cupy-cuda13x", "safetensors")
OWN_SOURCES = ("toolkit", "plugins", "custom_ops")
"""Packages of the toolkit, whose code makes the parts what they are."""

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """Where the parts of one network are kept, and what they must be of (`identity`)."""

    folder: Path
    identity: dict[str, str]

    @property
    def parts(self) -> Path:
        return self.folder / PARTS


def bundle_parts(
    bundle: Bundle,
    plugins: PluginManager,
    precision: Precision,
    device: torch.device,
    *,
    inductor: bool = False,
    warn: Warn,
) -> tuple[list[RewrittenPart], Path | None]:
    """The rewritten parts of a bundle's network on a device: those that are kept, or new ones, which are kept from now.

    With `inductor`, what torch's compiler makes of them is kept as well: in the folder that comes with them, which
    processes fill if it is not there yet, unless `PARTS_VARIABLE` is 0. Raises InputError as `load_network` and
    `rewrite_network` do. `warn` is told in one line why nothing is kept, and in one what makes starts slow.
    """

    def rewrite() -> list[RewrittenPart]:
        return rewrite_network(load_network(bundle, plugins).to(device), precision)

    if os.environ.get(FOLDER_VARIABLE) == "":
        return rewrite(), None
    try:
        entry = entry_of(bundle, plugins, precision, device)
    except InputError as error:
        warn(f"the rewritten network is not kept: {error}")
        return rewrite(), None
    if inductor:
        keep_compiled(entry)
    import_operators(bundle, plugins)
    if not inductor or os.environ.get(PARTS_VARIABLE) == "0":
        return kept_parts(entry, rewrite, device, warn), None
    job = _parts_job(bundle, plugins, precision, entry, device)
    try:
        with processes_for(job) as processes:
            parts = kept_parts(entry, lambda: processes.rewrite(bundle.submodules) or rewrite(), device, warn)
            if not entry.parts.is_file():
                raise _NotKept
            processes.compile(parts)
    except _NotKept:
        return parts, None
    if slow := reasons(job.folder):
        warn(f"torch's compiler has to read {len(slow)} of {len(parts)} parts, which takes seconds: {slow[0]}")
    return parts, job.folder


class _NotKept(Exception):
    """Ends processes in the middle of compiling what cannot be kept."""


def _parts_job(
    bundle: Bundle, plugins: PluginManager, precision: Precision, entry: Entry, device: torch.device
) -> PartsJob:
    dimensions = bundle.config.dimensions()
    specs = (*bundle.frame_inputs, *bundle.state_inputs)
    return PartsJob(
        bundle.path,
        precision,
        str(device),
        entry.parts,
        tuple(entry.identity.items()),
        entry.folder / COMPILED,
        tuple((spec.name, spec.resolve(dimensions), spec.dtype) for spec in specs),
        tuple(plugins.files),
        plugins.disabled,
    )


def import_operators(bundle: Bundle, plugins: PluginManager) -> None:
    """Have torch know the operators that kept graphs call: those of custom ops, and what foreign submodules bring."""
    plugins.custom_ops()
    installed = {package.plugin for package in bundle.packages}
    foreign = {record.name for record in bundle.submodules if record.plugin_sha256 or record.plugin in installed}
    for submodule in plugins.submodules():
        if submodule.name in foreign:
            submodule.build(bundle.config)  # which imports what it is made of


def entry_of(bundle: Bundle, plugins: PluginManager, precision: Precision, device: torch.device) -> Entry:
    """The entry of a bundle's network on a device. Raises InputError if nothing is to be kept, or nothing can be."""
    identity = {
        "bundle": bundle.identity,
        "precision": precision.value,
        "device": device_name(device),
        "sources": sources_digest(plugins),
        "python": platform.python_version(),
    } | {package: installed_version(package) or "" for package in VERSIONS}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    readable = re.sub(r"[^\w.]+", "-", f"{identity['device']}-{precision.value}")
    name = f"{bundle.identity[:12]}-{readable}-{digest[:12]}"
    return Entry(private_folder(kept_root() / name), identity)


def kept_root() -> Path:
    """The folder of all entries. Raises InputError if nothing is to be kept, and as `private_folder` does."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named == "":
        raise InputError(f"{FOLDER_VARIABLE} is empty, so nothing is kept; name a folder in it, or unset it")
    return private_folder((cache_folder() if named is None else Path(named)) / "networks")


def device_name(device: torch.device) -> str:
    """Name and compute capability of a GPU; the kind of any other device."""
    if device.type != "cuda":
        return device.type
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} {major}.{minor}"


def sources_digest(plugins: PluginManager) -> str:
    """Digest of all code from which a network is made: the toolkit's, and that of plugin files and packages."""
    digest = hashlib.sha256()
    home = Path(__file__).parents[3]
    for package in OWN_SOURCES:
        for path in sorted((home / package).rglob("*.py")):
            digest.update(f"{path.relative_to(home)} {path.stat().st_size}\n".encode() + path.read_bytes())
    others = [*plugins.files.values(), *plugins.disabled]
    others += [found.sha256 for plugin in plugins.plugins if (found := plugins.package(plugin.name)) is not None]
    digest.update("\n".join(others).encode())
    return digest.hexdigest()


def keep_compiled(entry: Entry) -> None:
    """Have torch's compiler and Triton keep what they compile in the entry, unless the user has said where."""
    for variable, folder in COMPILERS.items():
        named = os.environ.get(variable)
        ours = named is not None and Path(named).parent.parent == entry.folder.parent
        if named is None or ours or _is_default_of_torch(named):
            os.environ[variable] = str(entry.folder / folder)


def _is_default_of_torch(folder: str) -> bool:
    """Whether torch's compiler would use it if nobody said another; once imported, it sets its variable to that."""
    if DEFAULT_PREFIX not in folder:
        return False  # to import the compiler takes seconds
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    return bool(folder == default_cache_dir())


def kept_parts(
    entry: Entry, rewrite: Callable[[], Sequence[RewrittenPart]], device: torch.device, warn: Warn
) -> list[RewrittenPart]:
    """The parts of an entry, or those that `rewrite` gives, which become its own.

    They are read from the file in both cases, so that what is compiled from them is the same, and is found again. What
    cannot be read, written or kept is told by one line, and costs time alone. Raises what `rewrite` raises.
    """
    try:
        parts = read_parts(entry.parts, entry.identity, device)
        os.utime(entry.parts)
    except FileNotFoundError:
        pass
    except (UnfitFile, OSError) as error:
        warn(f"{entry.parts} is not used, and is made again: {error}")
    else:
        return parts
    made = list(rewrite())
    try:
        for folder in (entry.folder.parent, entry.folder):  # which may have been removed meanwhile
            private_folder(folder)
        with new_file(claim_file(entry.parts, shared=True)) as work:
            write_parts(work, made, entry.identity)
        remove_old_entries(entry)
        return read_parts(entry.parts, entry.identity, device)
    except (InputError, OSError, ValueError, UnfitFile) as error:
        warn(f"the rewritten network is not kept: {error}")
        return made


def remove_old_entries(entry: Entry) -> None:
    """Remove what was not used for longest, as long as there is more than may be; never `entry`."""
    used = {}
    for folder in entry.folder.parent.iterdir():
        with suppress(OSError):
            if ENTRY_NAME.fullmatch(folder.name):
                used[folder] = (folder / PARTS if (folder / PARTS).exists() else folder).stat().st_mtime
    total = 0
    newest_first = sorted(used, key=lambda folder: (folder == entry.folder, used[folder]), reverse=True)
    for number, folder in enumerate(newest_first):
        total += size_of(folder)
        if folder != entry.folder and (number >= MOST_ENTRIES or total > MOST_BYTES):
            shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; those that are removed meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_size
    return total
