"""The first weights of UniAD-tiny's training: those of BEVFormer-tiny, with its queries where tracking expects them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from toolkit.config.model import ModelConfig
from toolkit.errors import InputError
from toolkit.storage.claims import FileOutput
from toolkit.storage.outputs import new_file
from toolkit.weights.weight_files import write_pth, write_safetensors

DETECTION_QUERIES = "pts_bbox_head.query_embedding.weight"
TRACK_QUERIES = "query_embedding.weight"
SOURCE = "give the BEVFormer-tiny checkpoint that training starts from"
MOVED = {f"pts_bbox_head.transformer.{key}": key for key in ("reference_points.weight", "reference_points.bias")}


def stage1_weights(state_dict: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The entries of a BEVFormer-tiny checkpoint as the training of stage 1 loads them.

    The last detection query, repeated, becomes the ego's track query: [queries - 1, 2 * embed] -> [queries, 2 * embed];
    the detection queries stay under their own key. The projection to reference points moves to the top level. Raises
    InputError for entries that are missing, mis-shaped, or already in place.
    """
    queries, embed = config.tracking.queries, config.embed
    wanted = dict(zip((DETECTION_QUERIES, *MOVED), ((queries - 1, 2 * embed), (3, embed), (3,)), strict=True))
    for key in (TRACK_QUERIES, *MOVED.values()):
        if key in state_dict:
            raise InputError(f"the checkpoint already holds {key!r}: it needs no preparation for stage 1")
    for key, shape in wanted.items():
        if key not in state_dict:
            raise InputError(f"the checkpoint has no {key!r}; {SOURCE}")
        if state_dict[key].shape != shape:
            raise InputError(f"{key} has shape {list(state_dict[key].shape)}; it must be {list(shape)}: {SOURCE}")
    detection = state_dict[DETECTION_QUERIES]
    prepared = {MOVED.get(key, key): value for key, value in state_dict.items()}
    return prepared | {TRACK_QUERIES: torch.cat((detection, detection[-1:]))}


def write_weights(output: FileOutput | Path, state_dict: Mapping[str, Tensor], meta: Mapping[str, object]) -> None:
    """Write a checkpoint that `load_checkpoint` and training read.

    Of `meta`, texts, numbers and lists of them are kept, and in safetensors texts alone. Raises InputError for a name
    that ends neither in .pth nor in .safetensors, or a place that cannot be written.
    """
    if output.suffix not in (".pth", ".safetensors"):
        raise InputError(f"output {output} must end in .pth or .safetensors")
    with new_file(output) as work:
        if output.suffix == ".pth":
            plain = {key: value for key, value in meta.items() if _is_plain(value)}
            write_pth(work, {"state_dict": dict(state_dict), "meta": plain})
        else:
            texts = {key: value for key, value in meta.items() if isinstance(value, str)}
            # The format refuses tensors that share memory.
            own = {key: value.clone(memory_format=torch.contiguous_format) for key, value in state_dict.items()}
            write_safetensors(work, own, texts)


def _is_plain(value: object) -> bool:
    items = value if isinstance(value, list | tuple) else (value,)
    return all(isinstance(item, str | int | float | None) for item in items)
