"""Where frames come from, as one address: a frame folder, nuScenes, or what the reference made of nuScenes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from toolkit.config import ImageConfig
from toolkit.data.annotations import Annotation
from toolkit.data.fields import command_field
from toolkit.data.frames import Command, Frame, FrameSource
from toolkit.errors import InputError

logger = logging.getLogger(__name__)

ADDRESSES = (
    "a frame folder, nuscenes:DATAROOT?version=…&split=…&scenes=…, infos:FILE.pkl?dataroot=…, or "
    "trt-input:FOLDER?dataroot=…"
)
"""The forms of an address, for the help of commands; docs/nuscenes.md explains them."""
_DATAROOT_OPTIONS = ("version", "split", "scenes", "command")


def open_frames(address: str, image: ImageConfig, warn: Callable[[str], None] = logger.warning) -> FrameSource:
    """The frames at an address, for a model that takes images as `image` says. InputError names what is amiss.

    `PATH` is a frame folder; `nuscenes:PATH` a dataroot with the options version, split, scenes (by comma) and command;
    `infos:PATH` an info file of the reference with dataroot, scenes (tokens) and command; `trt-input:PATH` a folder of
    the reference's deployment project with dataroot. Options follow a question mark, joined by `&`.
    """
    match address.partition(":"):
        case "nuscenes", ":", place:
            from toolkit.data.nuscenes.dataroot import read_dataroot

            path, options = _parts(place, _DATAROOT_OPTIONS)
            return read_dataroot(
                path,
                image.cameras,
                version=options.get("version"),
                split=options.get("split"),
                scenes=comma_separated(options.get("scenes")),
                command=_command(options),
                warn=warn,
            )
        case "infos", ":", place:
            from toolkit.data.nuscenes.infos import read_infos

            path, options = _parts(place, ("dataroot", "scenes", "command"))
            return read_infos(
                path,
                image.cameras,
                dataroot=_dataroot(options),
                scenes=comma_separated(options.get("scenes")),
                command=_command(options),
            )
        case "trt-input", ":", place:
            from toolkit.data.trt_input import read_trt_input

            path, options = _parts(place, ("dataroot",))
            return read_trt_input(path, image, _dataroot(options))
        case _:
            from toolkit.data.frame_folder import read_frame_folder

            return read_frame_folder(Path(address), image.cameras)


def open_annotations(address: str, frames: Sequence[Frame]) -> Mapping[str, Sequence[Annotation]]:
    """The ground truth of an address's frames by their name, as far as it is known: a dataroot's alone.

    Raises InputError as `open_frames` does.
    """
    kind, _, place = address.partition(":")
    if kind != "nuscenes":
        return {}
    from toolkit.data.nuscenes.annotations import read_annotations

    path, options = _parts(place, _DATAROOT_OPTIONS)
    return read_annotations(path, frames, options.get("version"))


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


def _dataroot(options: dict[str, str]) -> Path | None:
    return Path(options["dataroot"]) if "dataroot" in options else None


def _command(options: dict[str, str]) -> Command | None:
    return command_field(options["command"], "command") if "command" in options else None
