"""Reading what `torch.save` wrote, without running code from it, and in no more memory than the file explains.

`torch.load` refuses code by itself, but makes whatever else a file asks for, of any size. So the file's structure and
its pickle are examined first, and only what weights and the state of a training need is let through. What a training
keeps beside them is read as inert stand-ins (`toolkit/weights/inert.py`).
"""

from __future__ import annotations

import io
import pickle
import re
import tarfile
import warnings
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch

from toolkit.errors import InputError
from toolkit.storage.regular_file import open_regular
from toolkit.storage.untrusted import NUMPY_GLOBALS
from toolkit.storage.zip_members import zip_members
from toolkit.text import one_line, quoted
from toolkit.weights.inert import inert_stand_ins
from toolkit.weights.pickle_program import names_in_pickle

MAX_PICKLE_BYTES = 2**24
"""Of everything but the tensors; a checkpoint with the state of its optimizer has a megabyte."""
MAX_STEPS = 2**21
COPY_AGAIN = "copy or download it again"
SAVE_AGAIN = "have its owner save the weights alone: torch.save(model.state_dict(), file)"
SAVE_YOURSELF = (
    "or, if you trust it, run where it was trained: "
    "torch.save({'state_dict': torch.load(file, weights_only=False)['state_dict']}, other)"
)
_LEGACY_PICKLES = 5
"""In files of old versions: magic number, version, machine, content, and the order of the tensors that follow."""
_DATA = re.compile(
    r"collections\.(OrderedDict|Counter)|builtins\.set|torch\.(device|Size)"
    r"|torch\._utils\._rebuild_((sparse_)?tensor|tensor_v2|parameter(_with_state)?)|torch\.serialization\._get_layout"
    r"|torch\.(cuda\.)?(Double|Float|Half|BFloat16|Long|Int|Short|Char|Byte|Bool|ComplexFloat|ComplexDouble)Storage"
    r"|torch\.b?(float|complex|int|uint|bool)\d*"
)
"""Names that containers, tensors and their types are made with, in the memory that the file gives them."""
_Allowed = Callable[..., Any] | tuple[Callable[..., Any], str]
_OTHER_TENSORS = re.compile(
    r"torch\.(_utils\._rebuild_\w+|_tensor\._rebuild_\w+|storage\.\w+|Q\w+Storage|per_\w+|\w*Tensor"
    r"|(nested|sparse|nn\.parameter|cuda)\.[\w.]+|bits\w+|float\w+|q?u?int\w+)"
)


def read_torch_file(path: Path, *, zipped: bool) -> Any:
    """The content of a `.pth` file, with CPU tensors mapped into memory where the file is a zip archive.

    Raises InputError for a file that is damaged or foreign, that would run code, that holds other tensors than dense
    ones, or whose size in memory is unknown.
    """
    try:
        stand_ins = dict(NUMPY_GLOBALS)
        with open_regular(path) as file:
            for names in (_zip_names if zipped else _legacy_names)(file, path):
                stand_ins |= inert_stand_ins(names)
                _refuse(path, names - stand_ins.keys())
        allowed: list[_Allowed] = [(stand_in, name) for name, stand_in in stand_ins.items()]
        with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
            # The only warnings are about pickle protocols, and those that matter end in an error.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {path} is damaged, or cannot be read without running code from it; "
            f"{SAVE_AGAIN}, {SAVE_YOURSELF}"
        ) from error
    # Foreign bytes can make the parser fail in any way.
    except Exception as error:
        raise InputError(
            f"checkpoint {path} is damaged or no PyTorch checkpoint: {one_line(error)}; {COPY_AGAIN}"
        ) from error


def _refuse(path: Path, names: set[str]) -> None:
    """Raise InputError unless all names in a pickle are those of data."""
    others = sorted(name for name in names if not _DATA.fullmatch(name))
    foreign = [name for name in others if not _OTHER_TENSORS.fullmatch(name)]
    if foreign:
        raise InputError(
            f"checkpoint {path} is refused: it names {quoted(foreign[0])}, and reading it would run that; "
            f"{SAVE_AGAIN}, {SAVE_YOURSELF}"
        )
    if others:
        raise InputError(
            f"checkpoint {path}: an entry made by {quoted(others[0])} is not a dense, named tensor; {SAVE_AGAIN}"
        )


def _zip_names(file: BufferedReader, path: Path) -> Iterator[set[str]]:
    """The names in the pickle of a zip archive, of which all that `torch.load` reads whole is small."""
    members = zip_members(file)
    if any(name.endswith("/constants.pkl") for name in members):
        raise InputError(f"checkpoint {path} is a TorchScript program, not a state dict; {SAVE_AGAIN}")
    if not all(member.stored for member in members.values()):
        raise InputError(f"checkpoint {path} is compressed, so its size is unknown; write it again with torch.save")
    whole = {name.casefold(): member for name, member in members.items() if "/data/" not in name.casefold()}
    if any(member.size > MAX_PICKLE_BYTES for member in whole.values()):
        raise InputError(
            f"checkpoint {path} has more than {MAX_PICKLE_BYTES} bytes besides its tensors, such as a long log; "
            f"{SAVE_AGAIN}, {SAVE_YOURSELF}"
        )
    [pickled] = [member for name, member in whole.items() if name.endswith("/data.pkl")]
    file.seek(pickled.start)
    yield names_in_pickle(io.BytesIO(file.read(pickled.size)), length=pickled.size, max_steps=MAX_STEPS)


def _legacy_names(file: BufferedReader, path: Path) -> Iterator[set[str]]:
    """The names in each of the pickles at the start of a file of an old version."""
    if tarfile.is_tarfile(path):
        raise ValueError("it is a tar archive")
    data = file.read(MAX_PICKLE_BYTES)
    pickles = io.BytesIO(data)
    for _ in range(_LEGACY_PICKLES):
        yield names_in_pickle(pickles, length=len(data), max_steps=MAX_STEPS)
