"""How a submodule states how it is trained. The core loops over clips and sums; it knows no loss by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from toolkit.config.model import ModelConfig
    from toolkit.data.ground_truth import AnnotatedScene, Gap, GroundTruth

STAGES = (1, 2)
Option = bool | float
Tensors = Mapping[str, Tensor]


def is_trained(name: str) -> bool:
    """Whether an entry of this name is a loss; others are figures."""
    return "loss" in name


class FrameTruth(Protocol):
    """What a submodule is trained on in key frame `index` of a scene: arrays by name, or what the data set lacks.

    `last` as in `Moment`.
    """

    def __call__(self, scene: AnnotatedScene, index: int, *, last: bool) -> Mapping[str, NDArray[Any]] | Gap: ...


Function = Callable[..., tuple[Tensor, ...]]
"""Plain tensor code of a module and tensors; what it does goes by their shapes alone, never by values."""


class Calls(Protocol):
    """How a submodule's step runs what takes many small operators; see `toolkit.training.graphs`."""

    def __call__(self, function: Function, module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What `function(module, *inputs)` gives. Of parameters it may read those of the module alone."""
        ...

    def padded(self, count: int, step: int) -> int:
        """How many rows to call with instead of so many, that there be few different numbers: at least `count`."""
        ...

    def begin(self) -> None:
        """A clip begins; what was given for the one before is needed no more."""
        ...


class Direct:
    """Calls functions as they are."""

    def __call__(self, function: Function, module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        return function(module, *inputs)

    def padded(self, count: int, step: int) -> int:
        return count

    def begin(self) -> None: ...


@dataclass(frozen=True)
class Moment:
    """A frame of a clip as a submodule meets it in training."""

    tensors: Tensors
    """The frame's inputs, and what the submodules before gave, by name. Sizes that inference fixes go by the frame."""
    truth: Tensors
    """The frame's ground truth by name, of all submodules."""
    state: Tensors | None
    """What the submodule's step left in the frame before; None in the first one."""
    index: int
    """From 0 in the clip."""
    last: bool
    """Whether this is the clip's last frame, the present."""
    stage: int
    options: Mapping[str, Option]
    """The submodule's `Training.options`, as the user changed them."""
    calls: Calls = field(default_factory=Direct)
    """What runs the network's larger parts."""


@dataclass(frozen=True)
class Step:
    """What a submodule gives for one frame in training."""

    tensors: Tensors = field(default_factory=dict)
    """For the submodules that follow: its outputs, and whatever else their training reads."""
    losses: Tensors = field(default_factory=dict)
    """Losses and figures under their official names; see `is_trained`."""
    state: Tensors | None = None
    """For its next frame."""


@dataclass(frozen=True)
class Training:
    """How a submodule is trained, in the `stages` in which the network has it.

    `step(module, moment)` carries out one frame. `truth(truth, config)` gives what makes the arrays of
    `Moment.truth` of a frame; what it needs of the data set as a whole, such as maps, it looks up once.
    `prepare(module, stage, options)` freezes what the stage does not train, and sets what of it stays in evaluation
    mode; it is asked whenever the network has been set to training mode. `initialise(module)` draws the weights that a
    training from scratch starts with; without it they are those of the module's own constructor.

    With `history` the submodule's state does not come from the clip's loop: before each frame the frames before it, or
    for the first one the frame itself, are run from scratch by this submodule and those it reads from, without gradient
    and in evaluation mode.

    `by_frame` says that the step goes by the frame's inputs alone, without state. Where all of the submodule is frozen
    and in evaluation mode it is then run once for each frame of a clip, and not again for a history. `together(module,
    moments)` gives the steps of several frames at once then, each as `step` would: many small operators take longer to
    launch than to compute. It is not asked where modules go by the statistics of their batches.

    `compiled(module)` gives the modules that `train --compile` compiles: plain tensor code, whose sizes do not go by
    values, of classes that are not torch's own, for these, such as `Sequential`, it compiles only within others.
    """

    step: Callable[[nn.Module, Moment], Step]
    truth: Callable[[GroundTruth, ModelConfig], FrameTruth] | None = None
    prepare: Callable[[nn.Module, int, Mapping[str, Option]], None] | None = None
    initialise: Callable[[nn.Module], None] | None = None
    stages: tuple[int, ...] = STAGES
    history: bool = False
    by_frame: bool = False
    together: Callable[[nn.Module, Sequence[Moment]], Sequence[Step]] | None = None
    compiled: Callable[[nn.Module], Sequence[nn.Module]] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    """Defaults of settings that are this submodule's own. Numbers are rates of what is random in it, which 0 switches
    off; what is True or False is not."""
