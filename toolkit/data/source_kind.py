"""What a plugin says about a source of frames: its address, its options, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.config.model import ImageConfig
from toolkit.data.annotations import Annotation
from toolkit.data.frames import Frame, FrameSource
from toolkit.data.ground_truth import GroundTruth

Warn = Callable[[str], None]
Options = Mapping[str, str]
Annotations = Mapping[str, Sequence[Annotation]]
"""The ground truth of frames, by the frame's name."""


@dataclass(frozen=True)
class FrameSourceKind:
    """Frames at addresses `PREFIX:PATH?OPTION=VALUE&…`; with an empty `prefix` at paths that begin with no other's.

    `form` is such an address for the help of commands, `options` are the names of those that it takes. `open` gets the
    path, the given options, the images that the model takes, and what to call with a warning. Where ground truth is
    known, `annotations` give what pictures show of it for frames, and `ground_truth` all of it for the scenes that the
    options choose. All raise InputError, which names what is amiss.
    """

    prefix: str
    form: str
    open: Callable[[Path, Options, ImageConfig, Warn], FrameSource]
    options: tuple[str, ...] = ()
    annotations: Callable[[Path, Options, Sequence[Frame]], Annotations] | None = None
    ground_truth: Callable[[Path, Options], GroundTruth] | None = None

    @property
    def name(self) -> str:
        """What lists call it."""
        return self.prefix or self.form
