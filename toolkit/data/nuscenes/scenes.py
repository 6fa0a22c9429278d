"""Which scenes of a nuScenes version to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.data.fields import name_field
from toolkit.data.nuscenes.devkit import readable
from toolkit.errors import InputError

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

_SHOWN = 12
"""Names that a message lists."""


def select_scenes(tables: NuScenes, split: str | None, scenes: Sequence[str]) -> list[dict[str, Any]]:
    """Records of the scenes of a split, or all; of these the named `scenes`, or all.

    A split is one of nuScenes, or of the version's own splits.json. Raises InputError for an unknown split or scene,
    or if none remains.
    """
    where = tables.table_root
    records = {name_field(one["name"], f"{where}: scene {i}: name"): one for i, one in enumerate(tables.scene)}
    if split is not None:
        members = _split_scenes(tables, split)
        selected = {name: record for name, record in records.items() if name in members}
        if not selected:
            raise InputError(f"{where}: holds no scene of split {split}; it holds {_listed(list(records))}")
        records = selected
    unknown = [name for name in scenes if name not in records]
    if unknown:
        place = where if split is None else f"split {split} of {where}"
        raise InputError(f"{place}: has no scene {unknown[0]}; it holds {_listed(list(records))}")
    if not records:
        raise InputError(f"{where}: holds no scene; unpack the metadata archive again")
    return [record for name, record in records.items() if not scenes or name in scenes]


def _split_scenes(tables: NuScenes, split: str) -> set[str]:
    from nuscenes.utils.splits import create_splits_scenes, get_scenes_of_split

    known = list(create_splits_scenes())
    own = Path(tables.table_root) / "splits.json"
    if split not in known and not own.is_file():
        raise InputError(f"there is no split {split}; nuScenes has {', '.join(known)}, and {own} does not exist")
    with readable(own):
        return set(get_scenes_of_split(split, tables))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
