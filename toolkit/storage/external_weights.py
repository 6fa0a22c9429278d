"""Weights of an ONNX model that lie in files beside it.

The model names such a file relative to its own folder. What has that name may have a second one (``cp -al``), or be a
link that stays in the folder. A link that leads out of it is not followed, for with a model from elsewhere it could
lead to anything; but where the model's file is a link itself, as in the cache of Hugging Face, its weights may lie
beside the file that it leads to. ONNX Runtime draws the same line; onnx would refuse every link.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from onnx import ModelProto, TensorProto

from toolkit.errors import InputError
from toolkit.storage.onnx_tensors import stated_bytes, tensors_in
from toolkit.storage.regular_file import open_regular
from toolkit.text import quoted, shown

LARGEST = 2**31 - 1
"""Bytes of a weight: no message of protobuf holds more."""
SPARE = 2**30
"""Bytes that weights may take beyond the size of their files: several may share theirs, but not without end."""


def external_names(model: ModelProto) -> list[str]:
    """The files that hold weights of a model, as it names them, whether or not they are there."""
    return sorted({location_of(weight) for weight in external_weights(model)})


def is_there(model: Path, name: str) -> bool:
    """Whether there is the file that a model, itself in the file `model`, names."""
    try:
        return weight_file(model, name).is_file()
    except (OSError, ValueError):
        return False


def require_weights(model: ModelProto, path: Path) -> None:
    """Raise InputError unless the files that the model in the file `path` names are there, and may be read for it."""
    for name in external_names(model):
        try:
            weight_file(path, name)
        except (OSError, ValueError) as error:
            raise unreadable(path, name, error) from error


def read_external_weights(model: ModelProto, path: Path) -> None:
    """Read the weights of the model in the file `path` that lie in others, in place.

    Raises InputError, naming weight and file, for a file that is missing, elsewhere or too short, and for a weight that
    takes other bytes than its type and shape ask for.
    """
    sizes: dict[tuple[int, int], int] = {}
    taken = 0
    for weight in external_weights(model):
        name = location_of(weight)
        try:
            with open_regular(weight_file(path, name)) as file:
                status = os.fstat(file.fileno())
                offset, length = span_of(weight, status.st_size)
                sizes[status.st_dev, status.st_ino] = status.st_size
                taken += length
                if taken > sum(sizes.values()) + SPARE:
                    raise ValueError(f"weights take {taken} bytes, far more than their files have")
                file.seek(offset)
                weight.raw_data = file.read(length)
        except (OSError, ValueError, MemoryError) as error:
            raise unreadable(path, name, error) from error
        weight.ClearField("external_data")
        weight.ClearField("data_location")


def unreadable(path: Path, name: str, error: OSError | ValueError | MemoryError) -> InputError:
    """What is raised for a file of weights; `name` is the model's for it."""
    reason = str(error) or "memory does not suffice"
    if isinstance(error, OSError):
        reason = f"{quoted(name)}: {error.strerror}"
    return InputError(
        f"external weights of ONNX model {path} cannot be read: {reason}; "
        "put the file of weights that was written with the model beside it"
    )


def weight_file(model: Path, name: str) -> Path:
    """The file that a model, itself in the file `model`, names.

    Raises ValueError for a name or a link that leads out of its folder; OSError if there is no such file.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(f"{quoted(name)} is no file in the model's folder")
    file = Path(os.path.realpath(model.parent / path, strict=True))
    folders = (os.path.realpath(model.parent), os.path.dirname(os.path.realpath(model)))
    if not any(file.is_relative_to(folder) for folder in folders):
        raise ValueError(f"{quoted(name)} is a link to {shown(file)}, out of the model's folder, which is not followed")
    return file


def external_weights(model: ModelProto) -> list[TensorProto]:
    """The tensors of a model whose values lie in files."""
    return [tensor for tensor in tensors_in(model) if tensor.data_location == TensorProto.EXTERNAL]


def location_of(weight: TensorProto) -> str:
    """The file that a weight lies in; empty if it names none."""
    return next((entry.value for entry in weight.external_data if entry.key == "location"), "")


def span_of(weight: TensorProto, size: int) -> tuple[int, int]:
    """Where in a file of `size` bytes a weight begins, and how many it takes. Raises ValueError if it cannot be so."""
    name, stated = quoted(weight.name), stated_bytes(weight)
    file = quoted(location_of(weight))
    entries = {entry.key: entry.value for entry in weight.external_data}
    offset = int(entries.get("offset", "0"))
    length = int(entries["length"]) if "length" in entries else size - offset
    if length != stated:
        raise ValueError(f"weight {name} takes {quoted(length)} bytes of {file} and has {quoted(stated)}")
    if length > LARGEST:
        raise ValueError(f"weight {name} has {length} bytes, the most is {LARGEST}")
    if not 0 <= offset <= size - length:
        where = f"bytes {quoted(offset)} to {quoted(offset + length)} of {file}"
        raise ValueError(f"weight {name} has {where}, and the file has {size} bytes")
    return offset, length
