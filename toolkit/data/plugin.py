"""The toolkit's own sources of frames, each imported when it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.data.fields import command_field
from toolkit.data.source_kind import Annotations, FrameSourceKind, Options, Warn
from toolkit.data.sources import comma_separated
from toolkit.hookspecs import hookimpl

if TYPE_CHECKING:
    from toolkit.config.model import ImageConfig
    from toolkit.data.frames import Command, Frame, FrameSource
    from toolkit.data.ground_truth import GroundTruth


@hookimpl
def uniad_frame_sources() -> Sequence[FrameSourceKind]:
    """Frame folders, nuScenes, and what the reference made of nuScenes; docs/nuscenes.md explains their options."""
    return (
        FrameSourceKind("", "a frame folder", open_folder),
        FrameSourceKind(
            "nuscenes",
            "nuscenes:DATAROOT?version=…&split=…&scenes=…",
            open_nuscenes,
            options=("version", "split", "scenes", "command"),
            annotations=nuscenes_annotations,
            ground_truth=nuscenes_ground_truth,
        ),
        FrameSourceKind(
            "infos",
            "infos:FILE.pkl?dataroot=…",
            open_infos,
            options=("dataroot", "scenes", "command"),
            ground_truth=info_ground_truth,
        ),
        FrameSourceKind("trt-input", "trt-input:FOLDER?dataroot=…", open_trt_input, options=("dataroot",)),
    )


def open_folder(path: Path, options: Options, image: ImageConfig, warn: Warn) -> FrameSource:
    """A frame folder."""
    from toolkit.data.frame_folder import read_frame_folder

    return read_frame_folder(path, image.cameras)


def open_nuscenes(path: Path, options: Options, image: ImageConfig, warn: Warn) -> FrameSource:
    """A dataroot; scenes by name."""
    from toolkit.data.nuscenes.dataroot import read_dataroot

    return read_dataroot(
        path,
        image.cameras,
        version=options.get("version"),
        split=options.get("split"),
        scenes=comma_separated(options.get("scenes")),
        command=_command(options),
        warn=warn,
    )


def nuscenes_annotations(path: Path, options: Options, frames: Sequence[Frame]) -> Annotations:
    """The annotations of a dataroot."""
    from toolkit.data.nuscenes.annotations import read_annotations

    return read_annotations(path, frames, options.get("version"))


def nuscenes_ground_truth(path: Path, options: Options) -> GroundTruth:
    """Everything that a dataroot knows about the chosen scenes."""
    from toolkit.data.nuscenes.annotations import read_ground_truth

    scenes = comma_separated(options.get("scenes"))
    return read_ground_truth(path, version=options.get("version"), split=options.get("split"), scenes=scenes)


def info_ground_truth(path: Path, options: Options) -> GroundTruth:
    """What an info file knows about the chosen scenes."""
    from toolkit.data.nuscenes.info_annotations import read_info_ground_truth

    return read_info_ground_truth(path, scenes=comma_separated(options.get("scenes")))


def open_infos(path: Path, options: Options, image: ImageConfig, warn: Warn) -> FrameSource:
    """An info file of the reference; scenes by token."""
    from toolkit.data.nuscenes.infos import read_infos

    return read_infos(
        path,
        image.cameras,
        dataroot=_dataroot(options),
        scenes=comma_separated(options.get("scenes")),
        command=_command(options),
    )


def open_trt_input(path: Path, options: Options, image: ImageConfig, warn: Warn) -> FrameSource:
    """A folder of the reference's deployment project."""
    from toolkit.data.trt_input import read_trt_input

    return read_trt_input(path, image, _dataroot(options))


def _dataroot(options: Options) -> Path | None:
    return Path(options["dataroot"]) if "dataroot" in options else None


def _command(options: Options) -> Command | None:
    return command_field(options["command"], "command") if "command" in options else None
