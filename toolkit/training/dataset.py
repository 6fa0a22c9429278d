"""Clips of a data set: frames in a row with what each submodule is to learn of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.config.model import ModelConfig
from toolkit.data.frames import Frame
from toolkit.data.ground_truth import AnnotatedScene, Gap
from toolkit.data.picture_cache import CacheFolder, PictureCache
from toolkit.data.pictures import IMAGE, PICTURES
from toolkit.data.preprocess import frame_inputs, load_image, normalised
from toolkit.data.source_kind import FrameSourceKind
from toolkit.data.sources import open_frames, open_ground_truth
from toolkit.errors import InputError
from toolkit.specs import Submodule
from toolkit.text import shown
from toolkit.training.augmentation import distort
from toolkit.training.clip import Clip, ClipFrame
from toolkit.training.clips import Place
from toolkit.training.spec import FrameTruth

NO_PICTURES = np.zeros(0, np.uint8)
"""In place of pictures that are prepared here."""


@dataclass(frozen=True)
class _Moment:
    """A key frame: what it brings, and where its annotations are."""

    frame: Frame
    scene: AnnotatedScene
    index: int


class DatasetClips:
    """Clips of `length` frames, one for each key frame that has so many in a row up to it with ground truth.

    Pictures are `distorted` at random, by the seed, the epoch and the clip; a `cache` decodes each once.
    """

    def __init__(
        self,
        queues: Sequence[Sequence[_Moment]],
        truths: Sequence[FrameTruth],
        config: ModelConfig,
        seed: int,
        *,
        distorted: bool,
        cache: PictureCache | None = None,
    ) -> None:
        self._queues, self._truths, self._config = queues, truths, config
        self._seed, self._distorted, self._cache = seed, distorted, cache

    def __len__(self) -> int:
        return len(self._queues)

    @property
    def cached(self) -> tuple[int, int]:
        """How many of the pictures are kept decoded, and how many there are; zeros without a cache."""
        return (0, 0) if self._cache is None else (len(self._cache.names), self._cache.count)

    @property
    def digest(self) -> str:
        """Of the frames of all clips by their tokens, wherever the data set lies."""
        tokens = (moment.scene.frames[moment.index].token for queue in self._queues for moment in queue)
        return hashlib.sha256(" ".join(tokens).encode()).hexdigest()[:16]

    def __getitem__(self, place: Place) -> Clip:
        """Raises InputError for pictures that cannot be used."""
        random = np.random.default_rng((self._seed, place.epoch, place.index))
        queue = self._queues[place.index]
        frames = []
        for number, moment in enumerate(queue):
            previous = None if number == 0 else queue[number - 1].frame
            last = number == len(queue) - 1
            inputs = self._inputs(moment.frame, previous, random)
            arrays = self._ground_truth(moment, last=last)
            frames.append(ClipFrame(_tensors(inputs), _tensors(arrays)))
        return Clip(queue[-1].frame.name, tuple(frames))

    def _inputs(self, frame: Frame, previous: Frame | None, random: np.random.Generator) -> dict[str, NDArray[Any]]:
        """The frame's inputs, as training feeds them: the first frame of a clip does not move."""
        image = self._config.image
        inputs = frame_inputs(replace(frame, recorded={}), previous, self._config, "training", NO_PICTURES)
        del inputs[PICTURES]
        pictures = [self._load(frame.cameras[name].image) for name in image.cameras]
        seen = [distort(picture, random) for picture in pictures] if self._distorted else pictures
        return inputs | {IMAGE: np.stack([normalised(picture, image) for picture in seen])}

    def _load(self, picture: Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._cache is None or not isinstance(picture, Path):
            return load_image(picture, self._config.image)
        return self._cache.load(picture)

    def _ground_truth(self, moment: _Moment, *, last: bool) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for truth in self._truths:
            known = truth(moment.scene, moment.index, last=last)
            if isinstance(known, Gap):  # not so in the scene's last frame, which was looked at before
                raise InputError(f"frame {moment.frame.name} lacks {known.what}; leave its scene out")
            arrays |= known
        return arrays


def open_clips(
    address: str,
    kinds: Collection[FrameSourceKind],
    submodules: Sequence[Submodule],
    config: ModelConfig,
    length: int,
    seed: int,
    *,
    distorted: bool,
    cache: CacheFolder | None = None,
) -> DatasetClips:
    """The clips at an address of frames with ground truth, in the order of time; scenes that lack some are left out.

    Decoded pictures are kept in the `cache`, if given. Raises InputError for an address without ground truth, and if no
    clip remains, with what is missing.
    """
    truth = open_ground_truth(address, kinds)
    frames = {_token(frame): frame for frame in open_frames(address, config.image, kinds)}
    trained = [each.training() for each in submodules if each.training is not None]
    truths = [training.truth(truth, config) for training in trained if training.truth is not None]
    gaps: Counter[str] = Counter()
    queues: list[list[_Moment]] = []
    for scene in truth.scenes:
        found = [queue for queue in _queues(scene, frames, length) if _is_annotated(queue)]
        lacking = _lacking(found[-1][-1], truths) if found else "key frames in a row with annotations"
        if lacking is None:
            queues += found
        else:
            gaps[lacking] += 1
    if not queues:
        missing = "; ".join(f"{count} lack {what}" for what, count in gaps.most_common(3))
        raise InputError(
            f"{shown(address)}: there is no clip to train on; a clip has {length} key frames in a row with ground "
            f"truth, but of {len(truth.scenes)} scenes {missing or 'none has frames'}"
        )
    kept = None if cache is None else cache.of(_pictures(queues, config), config.image)
    return DatasetClips(queues, truths, config, seed, distorted=distorted, cache=kept)


def _pictures(queues: Iterable[Sequence[_Moment]], config: ModelConfig) -> Iterator[Path]:
    """The files of the clips' pictures, those that several clips have several times."""
    for moment in chain.from_iterable(queues):
        images = (moment.frame.cameras[name].image for name in config.image.cameras if name in moment.frame.cameras)
        yield from (image for image in images if isinstance(image, Path))


def _token(frame: Frame) -> str:
    return frame.name.partition("_")[2]


def _queues(scene: AnnotatedScene, frames: Mapping[str, Frame], length: int) -> Iterator[list[_Moment]]:
    """Every `length` key frames in a row of a scene, all of which the source has."""
    for end in range(length, len(scene.frames) + 1):
        indices = range(end - length, end)
        if all(scene.frames[index].token in frames for index in indices):
            yield [_Moment(frames[scene.frames[index].token], scene, index) for index in indices]


def _is_annotated(queue: Sequence[_Moment]) -> bool:
    return all(moment.scene.frames[moment.index].objects is not None for moment in queue)


def _lacking(moment: _Moment, truths: Sequence[FrameTruth]) -> str | None:
    """What a scene lacks that some submodule is trained on, going by one of its frames; None if nothing."""
    found = (truth(moment.scene, moment.index, last=True) for truth in truths)
    return next((known.what for known in found if isinstance(known, Gap)), None)


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
