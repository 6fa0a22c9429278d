"""What flows between submodules: named tensors, recurrent state, and the submodules themselves.

Every shape is fixed. A dimension is an int or the name of one of `ModelConfig.dimensions()`
(``"tracks"``, ``"agents"`` …), so that a capacity chosen at conversion reaches every spec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.config.size_rules import Shapes, SizeRule

if TYPE_CHECKING:
    import torch
    from torch.fx import GraphModule

    from toolkit.config.model import ModelConfig
    from toolkit.runtime.results import FrameResult
    from toolkit.training.spec import Training
    from toolkit.visualize.birds_eye import Layer

Tensors = Mapping[str, NDArray[Any]]
"""Arrays of one frame by their tensors' names."""
DTYPES = ("float32", "int32", "int64", "bool", "uint8")
Angles = tuple[int, ...] | Literal["all"]
"""Which entries of a tensor's last dimension are angles in radians."""


class Role(StrEnum):
    """What a tensor says in the terms of a driver, so that decisions can be compared whoever makes them."""

    OBJECT_COUNT = "object count"
    """[1]: how many rows of the other object tensors are valid."""
    OBJECT_IDS = "object ids"
    """[n]: the same in every frame of an object."""
    OBJECT_LABELS = "object labels"
    """[n]: index into the class names."""
    OBJECT_BOXES = "object boxes"
    """[n, 3 or more]: begins with the place, x, y, z in metres, LiDAR frame."""
    OBJECT_GRID = "object grid"
    """Grid of cells; 1 + the row of the object tensors that is there, 0 where none is."""
    OCCUPANCY = "occupancy"
    """Grid of cells; not 0 where something is."""
    PLAN = "plan"
    """[steps, 2]: planned positions x, y in metres, LiDAR frame."""


@dataclass(frozen=True)
class Tolerance:
    """Bounds that the differences of one tensor must keep between two implementations; None is no bound.

    `norm` bounds |a - b| / |a| (L2 norms of the whole tensor), `largest` the largest |a - b| in the tensor's unit,
    `share` the share of entries that differ at all. In reduced precision digits are no measure; `reduced` bounds the
    relative L2 error there, of a tensor into which no decision enters.
    """

    norm: float | None = None
    largest: float | None = None
    share: float | None = None
    reduced: float | None = None


@dataclass(frozen=True)
class TensorSpec:
    """A named tensor: `shape` with symbolic dimensions, numpy `dtype` name, and what it means.

    `ranked_by` names the scores by which its rows are sorted, if they are: rows whose scores are equal within rounding
    may trade places between two implementations. Of an `OBJECT_GRID` it names the scores by which the rows are sorted
    that its values mean. A large result that few need may be `on_request`: it leaves the graph,
    but a frame's results have it only if it is asked for by name.

    `verify` compares `angles` modulo a full turn, and judges by `tolerance` in place of what it allows any tensor of
    the dtype. `role` makes the tensor part of the decisions that are compared.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    meaning: str
    ranked_by: str | None = None
    on_request: bool = False
    tolerance: Tolerance | None = None
    angles: Angles = ()
    role: Role | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"tensor {self.name!r}: dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")

    def resolve(self, dimensions: Mapping[str, int]) -> tuple[int, ...]:
        """The shape in numbers; ValueError names an unknown dimension."""
        unknown = [d for d in self.shape if isinstance(d, str) and d not in dimensions]
        if unknown:
            raise ValueError(f"tensor {self.name!r}: unknown dimension {unknown[0]!r}; known: {', '.join(dimensions)}")
        return tuple(dimensions[d] if isinstance(d, str) else d for d in self.shape)

    def zeros(self, dimensions: Mapping[str, int]) -> np.ndarray:
        return np.zeros(self.resolve(dimensions), self.dtype)


@dataclass(frozen=True)
class StateSpec:
    """One recurrent tensor: graph input `input` of a frame is `source` of the frame before.

    `source` is a submodule output or a frame input (the previous pose is simply this frame's pose).
    A sequence starts from zeros; a scene change is signalled by the frame input `use_previous` = 0.
    """

    input: str
    source: str


@dataclass(frozen=True)
class StateTable:
    """State inputs that together are a table, with a row for each thing that lives on from frame to frame.

    Its columns are the state inputs whose first dimension is `rows`. The state input `count` [1] says how many rows are
    valid; the first `fresh` of them (a dimension) are no things and stay whatever they hold. `next_id` [1] counts up,
    a number for each new thing. A frame may leave a thing with values that are not finite: its row is taken out, and
    what lies behind moves up. Ids that near the end of their range restart, with a new scene.
    """

    rows: str
    count: str
    fresh: str
    next_id: str


@dataclass(frozen=True)
class Interpretation:
    """How some of a frame's results become a part of its typed `FrameResult`.

    `add(result, tensors, config)` returns the result with that part; it is asked once all of `needs` are among the
    tensors, after whatever was asked about earlier submodules. `also` are tensors of which nobody need hear any more
    then, such as those that postprocessing has replaced. A result that no interpretation needs is kept as it is.
    """

    needs: tuple[str, ...]
    add: Callable[[FrameResult, Tensors, ModelConfig], FrameResult]
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asset:
    """An entry of the network's weights that is given to the conversion in a file of its own.

    `key` is its key, `read` makes the array from a file and raises InputError for a bad one, `option` is what
    `convert` calls it on the command line besides ``--asset KEY=FILE``, and `meaning` says what to give.
    """

    key: str
    read: Callable[[Path, ModelConfig], np.ndarray]
    option: str | None = None
    meaning: str = ""


@dataclass(frozen=True)
class Refinement:
    """A change to a frame's result that is made on the host, if it is asked for.

    `option` is how `run` and `evaluate` are asked, such as ``"--my-refinement"``; `meaning` is its help. `apply` gets a
    result and returns it changed, or as it is where it lacks what is needed. It goes by that frame alone: frames are
    shared out among processes.
    """

    option: str
    meaning: str
    apply: Callable[[FrameResult], FrameResult]


@dataclass(frozen=True)
class Submodule:
    """A part of the network as a plugin states it.

    `inputs` are names of tensors; the core finds out what they are. One that is given as a `TensorSpec` must have that
    shape and dtype.

    `build` makes an `nn.Module` whose `forward` takes the tensors of `inputs` in their order and
    returns those of `outputs` in theirs (a tuple, or one tensor), and whose `state_dict` keys, all under
    `checkpoint_prefixes`, are the official checkpoint's. `assets` are entries that come from a file of their own
    instead of the checkpoint. `results` names the outputs that leave the graph;
    the others are wires between submodules. `postprocess` derives further results on the host, for work
    that is sequential by nature. `replaces` names the submodule that this one stands in for.

    `inherited` are prefixes of entries that the model which training starts from has as well: a checkpoint with no
    others of the submodule does not make it, and is that model's.

    Training leaves entries behind that must load and that no output depends on: `unused` are glob patterns of their
    keys, `supervised` prefixes of numbered branches of which only the last acts, the others having served the losses of
    inner layers.

    `decide(config, shapes)` is the configuration with what the checkpoint's entries decide, whatever it says. `sizes`
    are compared with these entries before anything is built; `unfit` says by their shapes why no
    configuration fits to them, and `faults` what else about a configuration is not supported.

    `tables` are those parts of the state that are tables. `interpretation` says what the results mean; a submodule in
    place of another that has none keeps that of the other. `draw(picture, view, result)` draws further results on the
    view from above. `refinements` change results where the user wants it. `training` says how it is trained; a
    submodule without it is run, but nothing of it is trained.

    `keep_fp32` are glob patterns of node names, without the submodule's own (``"*box_head*"``; ``"*"`` for all), that
    stay in FP32 when the model's precision is reduced. The GPU session has no such nodes: there ``"*"`` alone counts.
    `gpu_rewrites` gives passes for that session over the graph that `torch.export` makes of the submodule: each changes
    it in place, before the session's own passes do, and returns the number of its changes.
    """

    name: str
    checkpoint_prefixes: tuple[str, ...]
    inputs: tuple[str | TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    build: Callable[[ModelConfig], torch.nn.Module]
    results: tuple[str, ...] = ()
    states: tuple[StateSpec, ...] = ()
    assets: tuple[Asset, ...] = ()
    postprocess: Callable[[Mapping[str, np.ndarray], ModelConfig], dict[str, np.ndarray]] | None = None
    replaces: str | None = None
    inherited: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    supervised: tuple[str, ...] = ()
    keep_fp32: tuple[str, ...] = ()
    sizes: tuple[SizeRule, ...] = ()
    decide: Callable[[ModelConfig, Shapes], ModelConfig] | None = None
    unfit: Callable[[Shapes], Iterable[str]] | None = None
    faults: Callable[[ModelConfig], Iterable[str]] | None = None
    tables: tuple[StateTable, ...] = ()
    interpretation: Interpretation | None = None
    draw: Layer | None = None
    refinements: tuple[Refinement, ...] = ()
    training: Callable[[], Training] | None = None
    gpu_rewrites: Callable[[], Sequence[Callable[[GraphModule], int]]] | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(item if isinstance(item, str) else item.name for item in self.inputs)

    def owns(self, key: str) -> bool:
        """Whether a checkpoint entry belongs to this submodule."""
        return key.startswith(self.checkpoint_prefixes)

    def without_effect(self, keys: Iterable[str]) -> set[str]:
        """Those of the submodule's entries among `keys` that no output depends on."""
        own = [key for key in keys if self.owns(key)]
        idle = {key for key in own for pattern in self.unused if fnmatchcase(key, pattern)}
        for prefix in self.supervised:
            numbers = {key: key.removeprefix(prefix).partition(".")[0] for key in own if key.startswith(prefix)}
            branches = {key: int(number) for key, number in numbers.items() if number.isdecimal()}
            idle |= {key for key, number in branches.items() if number < max(branches.values())}
        return idle


def refinements_of(submodules: Iterable[Submodule]) -> dict[str, Refinement]:
    """The refinements of all submodules by their options, in the order in which they are applied."""
    return {refinement.option: refinement for submodule in submodules for refinement in submodule.refinements}


def reported_results(results: Iterable[TensorSpec], states: Iterable[StateSpec]) -> tuple[TensorSpec, ...]:
    """Of the outputs that leave a network those that every frame reports: neither state nor on request."""
    recurrent = {state.source for state in states}
    return tuple(spec for spec in results if spec.name not in recurrent and not spec.on_request)


FRAME_INPUTS: tuple[TensorSpec, ...] = (
    TensorSpec(
        "image",
        ("cameras", 3, "image_height", "image_width"),
        "float32",
        "normalised, resized and padded camera images, cameras and colours in the order of the config",
    ),
    TensorSpec("lidar2img", ("cameras", 4, 4), "float32", "LiDAR frame (m) to pixels of the resized image"),
    TensorSpec("can_bus", (18,), "float32", "ego motion since the previous frame and CAN readings"),
    TensorSpec("timestamp", (1,), "float32", "seconds since the start of the scene"),
    TensorSpec("l2g_rotation", (3, 3), "float32", "LiDAR to global, row vectors: p_global = p_lidar @ r + t"),
    TensorSpec("l2g_translation", (3,), "float32", "LiDAR to global translation, metres"),
    TensorSpec("command", (1,), "int32", "driving command: 0 right, 1 left, 2 straight"),
    TensorSpec("use_previous", (1,), "int32", "1 continues the previous frame's scene, 0 starts a new one"),
)
"""What a frame brings from outside. Everything else that a submodule reads is a state or another's output."""


def frame_input(name: str) -> TensorSpec:
    """The frame input of this name, for a submodule that reads it."""
    return next(spec for spec in FRAME_INPUTS if spec.name == name)
