"""Where frames come from, as one address, such as a frame folder or `nuscenes:PATH?split=mini_val`."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from toolkit.config.model import ImageConfig
from toolkit.data.frames import Frame, FrameSource
from toolkit.data.ground_truth import GroundTruth
from toolkit.data.source_kind import Annotations, FrameSourceKind, Warn
from toolkit.errors import InputError
from toolkit.text import shown

logger = logging.getLogger(__name__)


def open_frames(
    address: str, image: ImageConfig, kinds: Collection[FrameSourceKind], warn: Warn = logger.warning
) -> FrameSource:
    """The frames at an address of one of these kinds, for a model that takes images as `image` says.

    A path follows the kind's prefix and a colon, options follow a question mark, joined by `&`. Raises InputError,
    which names what is amiss.
    """
    kind, path, options = _parsed(address, kinds)
    return kind.open(path, options, image, warn)


def open_annotations(address: str, frames: Sequence[Frame], kinds: Collection[FrameSourceKind]) -> Annotations:
    """The ground truth of an address's frames by their name, as far as it is known.

    Raises InputError as `open_frames` does.
    """
    kind, path, options = _parsed(address, kinds)
    return {} if kind.annotations is None else kind.annotations(path, options, frames)


def open_ground_truth(address: str, kinds: Collection[FrameSourceKind]) -> GroundTruth:
    """What the data set at an address knows about the scenes that the address chooses.

    Raises InputError as `open_frames` does, and for a kind of frames without ground truth.
    """
    kind, path, options = _parsed(address, kinds)
    if kind.ground_truth is None:
        able = [other.form for other in kinds if other.ground_truth is not None]
        raise InputError(f"{shown(address)}: {kind.name} holds no ground truth; give {' or '.join(able)}")
    return kind.ground_truth(path, options)


def address_forms(kinds: Collection[FrameSourceKind]) -> str:
    """The forms of an address, for people to read."""
    *others, last = (kind.form for kind in kinds)
    return f"{', '.join(others)}, or {last}" if others else last


def address_paths(address: str | None) -> list[Path]:
    """The files and folders that an address may name, whatever its kind: itself, its path, and its dataroot."""
    if address is None:
        return []
    path, _, query = address.partition(":")[2].partition("?")
    options = dict(option.partition("=")[::2] for option in query.split("&"))
    return [Path(name) for name in (address, path, options.get("dataroot")) if name]


def image_files(frames: Iterable[Frame]) -> Iterator[Path]:
    """The files that the cameras' pictures of frames are in."""
    views = (view for frame in frames for view in frame.cameras.values())
    return (view.image for view in views if isinstance(view.image, Path))


def comma_separated(names: str | None) -> list[str]:
    """The names of a list such as "scene-0061, scene-0103"."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def _parsed(address: str, kinds: Collection[FrameSourceKind]) -> tuple[FrameSourceKind, Path, dict[str, str]]:
    prefix, colon, place = address.partition(":")
    by_prefix = {kind.prefix: kind for kind in kinds}
    if colon and prefix and prefix in by_prefix:
        return by_prefix[prefix], *_parts(place, by_prefix[prefix].options)
    if "" not in by_prefix:
        raise InputError(f"the address {address!r} is none of {address_forms(kinds)}")
    return by_prefix[""], Path(address), {}


def _parts(place: str, known: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The path and the options of an address after its kind; InputError for an option that is not among `known`."""
    path, _, query = place.partition("?")
    options: dict[str, str] = {}
    for option in filter(None, query.split("&")):
        name, _, value = option.partition("=")
        if name not in known or name in options or not value:
            fault = "is given twice" if name in options else "has no value" if name in known else "is unknown"
            raise InputError(f"{place}: option {name!r} {fault}; known here are {', '.join(known)}, as name=value")
        options[name] = value
    if not path:
        raise InputError(f"the address {place!r} has no path; give it before the question mark")
    return Path(path), options
