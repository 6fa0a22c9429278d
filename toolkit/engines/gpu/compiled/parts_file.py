"""Rewritten parts in a file: safetensors of their constants, with the graphs as text in its header.

Nothing in it is code: operators are looked up by name, and must be those of this process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolkit.engines.gpu.compiled.graph_record import graph_module, graph_record
from toolkit.engines.gpu.compiled.rewrite import RewrittenPart
from toolkit.precision import Precision

FORMAT = 1
HOST = torch.device("cpu")


class UnfitFile(Exception):
    """A file does not hold the parts that were asked for; the message says why, in a few words."""


def write_parts(path: Path, parts: Sequence[RewrittenPart], identity: Mapping[str, str]) -> None:
    """Write parts, which are those of a network of this `identity`.

    Raises ValueError for a graph that cannot be written (`graph_record`), and OSError if the file cannot.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    memory, layouts, records = dict[str, Tensor](), list[dict[str, Any]](), list[dict[str, Any]]()
    numbers: dict[tuple[Any, ...], int] = {}
    for part in parts:
        nodes, constants = graph_record(part.module)
        named = {}
        for name, tensor in constants.items():
            # Parts share constants; an empty one has no address of its own.
            same = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
            named[name] = numbers.setdefault(same, len(numbers))
            if named[name] == len(layouts):
                memory[str(named[name])] = _memory_of(tensor)
                place = {"on_host": tensor.device.type == "cpu"}
                layouts.append({"shape": list(tensor.shape), "stride": list(tensor.stride())} | place)
        records.append(
            {
                "submodule": part.submodule,
                "precision": part.precision.value,
                "inputs": part.inputs,
                "outputs": part.outputs,
                "nodes": nodes,
                "constants": named,
            }
        )
    text = json.dumps({"format": FORMAT, "identity": dict(identity), "layouts": layouts, "parts": records})
    try:
        save_file(memory, path, metadata={"parts": text, "sha256": _digest(text, memory.values())})
    except SafetensorError as error:
        raise OSError(str(error)) from error


def read_parts(path: Path, identity: Mapping[str, str], device: torch.device) -> list[RewrittenPart]:
    """The parts of a network of this `identity`, with their constants on `device`, but for those that were on the host.

    Raises UnfitFile if the file holds no parts, or others, or needs an operator that this process has not, and OSError
    if it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            memory = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(header["parts"])
        if content["format"] != FORMAT or content["identity"] != identity:
            raise UnfitFile("it is of another network or version")
        constants = [memory[str(number)] for number in range(len(memory))]
        if header["sha256"] != _digest(header["parts"], constants):
            raise UnfitFile("it is damaged")
        laid_out = [
            _on(HOST if layout["on_host"] else device, flat).as_strided(layout["shape"], layout["stride"])
            for flat, layout in zip(constants, content["layouts"], strict=True)
        ]
        return [_part(record, laid_out) for record in content["parts"]]
    except SafetensorError as error:
        raise UnfitFile("it is damaged") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UnfitFile(f"it does not fit: {error}") from error


def _part(record: Mapping[str, Any], constants: Sequence[Tensor]) -> RewrittenPart:
    own = {name: constants[number] for name, number in record["constants"].items()}
    module = graph_module(record["nodes"], own)
    names = tuple(record["inputs"]), tuple(record["outputs"])
    return RewrittenPart(record["submodule"], Precision(record["precision"]), module, *names)


def _memory_of(tensor: Tensor) -> Tensor:
    """[elements]: all memory between a tensor's first element and its last, so that any layout comes back as it was."""
    steps = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    length = 0 if tensor.numel() == 0 else 1 + steps
    return tensor.as_strided((length,), (1,), tensor.storage_offset()).cpu().clone()


def _on(device: torch.device, flat: Tensor) -> Tensor:
    """In memory of its own, which begins where allocations begin; in a file, a tensor may begin anywhere."""
    return flat.clone() if device.type == "cpu" else flat.to(device)


def _digest(text: str, memory: Iterable[Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for flat in memory:
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
