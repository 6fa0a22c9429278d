"""nuScenes' own devkit, imported when it is needed, with its failures as one clear line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import SkipTest

from toolkit.errors import InputError
from toolkit.text import one_line

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

TABLES = (
    "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample", "sample_annotation",
    "sample_data", "scene", "sensor", "visibility",
)  # fmt: skip


def open_tables(dataroot: Path, version: str | None) -> NuScenes:
    """The tables of one version, or of the only one there is.

    Raises InputError if the devkit, the dataroot, the version or tables are missing, or the tables are damaged.
    """
    if not dataroot.is_dir():
        raise InputError(f"{dataroot}: is not a folder; give the nuScenes folder that holds samples/ and v1.0-…/")
    version = _version(dataroot, version)
    missing = [f"{table}.json" for table in TABLES if not (dataroot / version / f"{table}.json").is_file()]
    if missing:
        raise InputError(
            f"{dataroot / version}: {len(missing)} of {len(TABLES)} tables are missing: {', '.join(missing)}; "
            f"{_elsewhere(dataroot) or 'unpack the metadata archive again'}"
        )
    with needed_by("nuScenes data"):
        from nuscenes.nuscenes import NuScenes
    with readable(dataroot / version):
        return NuScenes(version=version, dataroot=str(dataroot), verbose=False)


def _version(dataroot: Path, version: str | None) -> str:
    found = sorted(path.parent.name for path in dataroot.glob("*/scene.json"))
    if version is None and len(found) == 1:
        return found[0]
    if version is not None and (dataroot / version).is_dir():
        return version
    if not found and (remedy := _elsewhere(dataroot)):
        raise InputError(f"{dataroot}: holds no folder of tables; {remedy}")
    fault = "a version must be chosen" if version is None else f"has no version {version}"
    raise InputError(f"{dataroot}: {fault}; found there: {', '.join(found) or 'none, unpack the metadata archive'}")


def _elsewhere(dataroot: Path) -> str:
    """What to do where the tables lie one level higher or lower than they should; empty if they do not."""
    if (dataroot / "scene.json").is_file():
        return f"it is one itself; give the folder above it, {os.path.dirname(os.path.abspath(dataroot))}"
    lower = next(iter(sorted(dataroot.glob("*/*/scene.json"))), None)
    if lower is None:
        return ""
    version = lower.parent
    return f"found {version.name} in {version.parent}; give that, or move {version.name} up into {dataroot}"


@contextmanager
def needed_by(purpose: str) -> Iterator[None]:
    """Turn a failed import of the devkit, or of what its evaluations use, into InputError."""
    try:
        yield
    except (ImportError, SkipTest) as error:  # the devkit skips what lacks motmetrics or pandas, as if it were a test
        raise InputError(
            f"{purpose} needs nuscenes-devkit, which cannot be imported ({one_line(error)}); "
            "pip install 'uniad-toolkit[nuscenes]'"
        ) from error


@contextmanager
def readable(tables: Path) -> Iterator[None]:
    """Turn what the devkit raises for tables that are damaged or do not fit together into InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the devkit asserts, looks up without checking, and raises plain Exceptions
        raise InputError(f"{tables}: cannot be used: {one_line(error)}; unpack the metadata archive again") from error
