"""How many operators each part of a training step dispatches, forward and backward, and how often it waits.

A GPU that training keeps idle waits for the host, which dispatches operators one by one: their number says what a step
costs there, and can be counted on any machine. Views are left out, for they launch nothing; an op of the toolkit's own
counts once, as its kernel does, in either direction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from benchmarks.training_parts import BACKWARD, OPTIMISER, OTHER, WITHOUT_GRADIENT
from plugins.image_encoder.training import VALUES_TOGETHER
from toolkit.training.clip import Clip
from toolkit.training.clip_model import ClipModel, total
from toolkit.training.config import TrainingConfig
from toolkit.training.optimiser import clip_gradients, make_optimiser
from toolkit.training.run import figures
from toolkit.training.spec import Moment, Step, Training

Result = TypeVar("Result")
PART = "part of the step"
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2"}
"""Operators for which the host waits until a GPU has come to them."""
INDEXED = {"aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
"""Operators that wait if an index is a truth value for each element."""
UPLOAD = "aten::lift_fresh"
"""What makes a tensor of numbers on the host; on a GPU they are copied there."""
SILENT = {
    UPLOAD,
    "aten::detach",
    "aten::detach_",
    "aten::empty.memory_format",
    "aten::empty_like",
    "aten::scalar_tensor",
}
"""Operators that launch nothing."""
OWN = "uniad"
"""Namespace of the toolkit's own operators."""


@dataclass
class Operators:
    """Of one part of a step."""

    forward: int = 0
    backward: int = 0
    waits: int = 0
    """Times the host waits for what a GPU has computed, in both directions."""
    uploads: int = 0
    """Tensors made of numbers on the host, in both directions."""
    names: Counter[str] = field(default_factory=Counter)
    """How many of which, in both directions"""


class OperatorCount(TorchDispatchMode):
    """Counts operators while it is entered, by the part that `of` names; in backward, by `mark`.

    Where no GPU is, tensors that would not be on it are told apart by where they come from: `cpu()`, NumPy, functions
    that are asked for no device, and what is computed from these alone. Operators among them are not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.parts: dict[str, Operators] = {}
        self._part = ""
        self._own_node: Any = None
        self.host: Any = WeakIdKeyDictionary()
        """The tensors that would not be on a GPU."""
        self.asked_no_device = False
        self._methods = _Methods(self)

    def __enter__(self) -> Self:
        self._methods.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._methods.__exit__(*raised)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        node: Any = torch._C._current_autograd_node()
        result = func(*args, **kwargs)
        if node is None and self._on_host(args, kwargs):
            for each in tree_leaves(result):
                if isinstance(each, Tensor):
                    self.host[each] = True
            return result
        part = self._part if node is None else node.metadata.get(PART)
        if part is None:  # of what an op of the toolkit's own computes again
            return result
        counted = self.parts.setdefault(part, Operators())
        name = str(func.name())
        if node is not None and OWN in node.name():
            if self._own_node is not node:
                self._own_node = node
                counted.backward += 1
            return result
        counted.waits += name in WAITING or waits_for_indices(name, args)
        counted.uploads += name == UPLOAD
        if not (func.is_view or name in SILENT or name.startswith("profiler::")):
            counted.names[name] += 1
            if node is None:
                counted.forward += 1
            else:
                counted.backward += 1
        return result

    def _on_host(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether an operator runs on the host where there is a GPU."""
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        arrays = [each for each in tensors if each.ndim] or tensors  # numbers go with either
        return self.asked_no_device or (bool(arrays) and all(each in self.host for each in arrays))

    def mark(self, tensors: Iterable[Tensor]) -> None:
        """What the gradients of these tensors go through, and nobody has marked, is of the present part."""
        nodes: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
        while nodes:
            node = nodes.pop()
            if PART not in node.metadata:
                node.metadata[PART] = self._part
                nodes += [each for each, _ in node.next_functions if each is not None]

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """What is dispatched in here is of this part."""
        before, self._part = self._part, part
        try:
            yield
        finally:
            self._part = before

    def moved(self, tensor: Tensor, *, to_host: bool) -> Tensor:
        """The tensor as if it had been copied from one memory to the other."""
        counted = self.parts.setdefault(self._part, Operators())
        counted.waits += to_host
        counted.uploads += not to_host
        with torch._C._DisableTorchDispatch():
            other = tensor.detach().view(tensor.shape)
        if to_host:
            self.host[other] = True
        return other


class _Methods(TorchFunctionMode):
    """Sees what dispatches nothing where there is no GPU: copies between host and device."""

    def __init__(self, count: OperatorCount) -> None:
        super().__init__()
        self._count = count

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        count, kwargs = self._count, kwargs or {}
        before = count.asked_no_device
        given = any(isinstance(each, Tensor) for each in tree_leaves((args, kwargs)))
        if func is Tensor.new_tensor:
            given = args[0] not in count.host
        count.asked_no_device = not given and kwargs.get("device") is None
        try:
            result = func(*args, **kwargs)
        finally:
            count.asked_no_device = before
        if func in (torch.as_tensor, torch.tensor) and kwargs.get("device") is None:
            count.host[result] = True
        elif func in (Tensor.cpu, Tensor.tolist) and args[0] not in count.host:
            moved = count.moved(args[0], to_host=True)
            return moved if func is Tensor.cpu else result
        elif func is Tensor.to and args[0] in count.host and is_device(args[1:], kwargs):
            return count.moved(result, to_host=False)
        return result


def is_device(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether arguments of `Tensor.to` name a device."""
    return "device" in kwargs or any(isinstance(each, torch.device | Tensor | str) for each in args)


def waits_for_indices(name: str, args: tuple[Any, ...]) -> bool:
    """Whether an operator first has to find out how many elements are meant."""
    if name not in INDEXED:
        return False
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])


def count_operators(model: ClipModel, clips: Sequence[Clip], training: TrainingConfig) -> dict[str, Operators]:
    """Those of the last of these steps, one for each clip, by part; the model is of no use for anything else then.

    On the CPU, but pictures are put together as on a GPU.
    """
    count = OperatorCount()
    model.trained = {name: _counted(name, trained, count) for name, trained in model.trained.items()}
    optimiser = make_optimiser(model.named_parameters(), training)
    with patch.dict(VALUES_TOGETHER, cpu=VALUES_TOGETHER["cuda"]):
        for clip in clips:
            count.parts = {}
            with torch.enable_grad(), count:
                with count.of(OTHER):
                    losses = model(clip)
                    figures(losses)
                    summed = total(losses)
                    count.mark([summed])
                with count.of(BACKWARD):
                    summed.backward()
                with count.of(OPTIMISER):
                    clip_gradients(model.parameters(), training.gradient_norm)
                    optimiser.step()
                    optimiser.zero_grad()
    return count.parts


def _counted(name: str, training: Training, count: OperatorCount) -> Training:
    """How a submodule is trained, with what it dispatches counted."""

    def run(call: Callable[[], Result], steps: Callable[[Result], Sequence[Step]]) -> Result:
        with count.of(name if torch.is_grad_enabled() else WITHOUT_GRADIENT.format(name)):
            result = call()
            for step in steps(result):
                count.mark([*step.tensors.values(), *step.losses.values(), *(step.state or {}).values()])
        return result

    def step(module: nn.Module, moment: Moment) -> Step:
        return run(lambda: training.step(module, moment), lambda found: [found])

    def together(module: nn.Module, moments: Sequence[Moment]) -> Sequence[Step]:
        assert training.together is not None
        at_once = training.together
        return run(lambda: at_once(module, moments), lambda found: found)

    return replace(training, step=step, together=None if training.together is None else together)
