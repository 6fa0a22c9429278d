"""What a training environment recorded of its own model: frames with inputs and outputs, and what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from toolkit.config.model import CanBusRotation, YawConvention
from toolkit.errors import InputError
from toolkit.reference_interface import tensors as official
from toolkit.reference_interface.frame_file import OfficialFrames, read_frames, stated_sizes
from toolkit.reference_interface.replay import read_inputs
from toolkit.storage.json_file import parse_json
from toolkit.storage.npz import array_in, opened_npz
from toolkit.storage.typed import Misfit, decode
from toolkit.text import quoted

OUTPUT_KEY = re.compile(r"f([0-9]+)\.(?:out|aux)\.(\w+)")
META = "meta"
SAMPLE = "sample_idx"
"""The data set's name of a frame."""
MAX_TEXT_BYTES = 2**24
"""Four bytes a character; a resolved config has some 50,000."""
REMEDY = "dump again"
FORMAT = 1
"""The newest form of dumps that is known here."""


@dataclass(frozen=True)
class Origin:
    """What a dump says of the model and the environment that it was made with; None is what it leaves unsaid."""

    versions: Mapping[str, str | None] = field(default_factory=dict)
    tree: str | None = None
    commit: str | None = None
    config: str | None = None
    config_sha256: str | None = None
    checkpoint: str | None = None
    checkpoint_sha256: str | None = None
    device: str | None = None
    tf32: bool | None = None
    fp16: bool | None = None
    score_thresh: float | None = None
    filter_score_thresh: float | None = None
    miss_tolerance: int | None = None
    yaw_convention: YawConvention | None = None
    can_bus_rotation: CanBusRotation | None = None
    cameras: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Extent:
    """What a dump says of its own form."""

    format: int | None = None
    frames: int | None = None


@dataclass(frozen=True, eq=False)
class Dump:
    """`samples` are the data set's names of the frames, as far as the file has them."""

    path: Path
    origin: Origin
    inputs: OfficialFrames
    outputs: OfficialFrames
    samples: tuple[str | None, ...]

    @property
    def starts_midway(self) -> bool:
        """Whether a state goes before the first frame."""
        return not self.inputs.names(0).isdisjoint(official.RECURRENT)


def read_dump(path: Path) -> Dump:
    """The frames of an npz with keys ``f{t}.in.NAME``, ``f{t}.out.NAME``, ``f{t}.aux.NAME`` and ``meta``.

    Tensors without a counterpart in our network are passed over. Raises InputError for a file that is none, for
    frames without outputs, and for a newer form or another length than it says.
    """
    known = {*official.OUTPUTS, *official.FORECASTS} - official.RECALLED.keys()
    inputs = read_inputs(path)
    outputs = read_frames(path, OUTPUT_KEY, lambda key, name, number: name in known)
    if len(outputs) != len(inputs):
        raise InputError(
            f"{path} holds inputs of {len(inputs)} frames and outputs of {len(outputs)}; `verify --inputs` takes "
            "inputs alone"
        )
    texts = _texts(path, [META, *(f"f{number}.aux.{SAMPLE}" for number in range(len(inputs)))])
    return Dump(
        path,
        origin=_origin(path, texts.get(META), len(inputs)),
        inputs=inputs,
        outputs=outputs,
        samples=tuple(texts.get(f"f{number}.aux.{SAMPLE}") or None for number in range(len(inputs))),
    )


def _texts(path: Path, keys: Sequence[str]) -> dict[str, str]:
    """Those of the texts that the file has. Raises InputError for what is none."""
    texts = {}
    with opened_npz(path, "dump") as archive:
        sizes = stated_sizes(archive)
        for key in keys:
            if key not in archive.files:
                continue
            if sizes[key] > MAX_TEXT_BYTES:
                raise InputError(f"{path}: {key} is larger than {MAX_TEXT_BYTES} bytes; {REMEDY}")
            array = array_in(archive, key)
            if array.dtype.kind != "U" or array.size != 1:
                raise InputError(f"{path}: {key} is {array.dtype}{list(array.shape)}; it must hold one text; {REMEDY}")
            texts[key] = str(array.item())
    return texts


def _origin(path: Path, text: str | None, count: int) -> Origin:
    """What the text says of a dump of `count` frames; what it says besides is passed over.

    Raises InputError for a text that is no such JSON, of a newer form, or of another number of frames.
    """
    if text is None:
        return Origin()
    where = f"{path}: {META}"
    try:
        values = parse_json(text.encode("utf-8", "surrogatepass"))
        if not isinstance(values, dict):
            raise InputError(f"{where} is {quoted(values)}, no JSON object; {REMEDY}")
        extent = decode(_Extent, _said(values, _Extent))
        if extent.format is not None and extent.format > FORMAT:
            raise InputError(f"{where} is of format {extent.format}, newer than {FORMAT}; use a newer toolkit")
        if extent.frames not in (None, count):
            raise InputError(f"{where} says {extent.frames} frames, the file holds {count}; {REMEDY}")
        return decode(Origin, _said(values, Origin))
    except Misfit as misfit:
        raise InputError(f"{where} is damaged: {misfit}; {REMEDY}") from misfit
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error!s:.200}; {REMEDY}") from error


def _said(values: Mapping[str, Any], kind: type[Origin] | type[_Extent]) -> dict[str, Any]:
    """Those of the values that the kind has fields for."""
    return {item.name: values[item.name] for item in fields(kind) if values.get(item.name) is not None}
