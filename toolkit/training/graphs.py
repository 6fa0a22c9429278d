"""`train --graphs`: parts of the network that a step calls (`Moment.calls`) become CUDA graphs, launched as a whole.

A part that is called several times in a clip has a graph for each, whose memory keeps what its backward graph needs.
Both are recorded when a part is first called with tensors of new sizes. Gradients of parameters are added up within the
backward graphs, and leave them once a clip, for autograd, and so for whatever averages gradients over processes, sees a
part's parameters as used once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from toolkit.text import one_line
from toolkit.training.flat import FlatTensors
from toolkit.training.spec import Function

WARM_UP_RUNS = 2
"""Enough for libraries to load their kernels before a graph is recorded."""

Tensors = tuple[Tensor | None, ...]
Run = Callable[[], Tensors]


class NotRecorded(RuntimeError):
    """A call cannot become a graph."""


class Recorded(NamedTuple):
    """What a run gave when it was recorded; `replay` computes it anew, in the same memory."""

    outputs: Tensors
    replay: Callable[[], None]


Recorder = Callable[[Sequence[Run]], list[Recorded]]
"""Records runs that are always replayed in this order, and may go by what the one before left in memory."""
Capture = Callable[[Run], Recorded]
"""Records a run that has run before, and does not run it. Raises NotRecorded."""


class CudaRecorder:
    """Records runs as CUDA graphs that share memory among each other, but with no others.

    All share the workspaces that cuBLAS keeps for the stream of the recordings, for they never run at once.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()

    def __call__(self, runs: Sequence[Run]) -> list[Recorded]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_RUNS):
                for run in runs:
                    run()
        torch.cuda.current_stream().wait_stream(self._stream)
        pool = torch.cuda.graph_pool_handle()
        return [self._captured(run, pool) for run in runs]

    def capture(self, run: Run) -> Recorded:
        """See `Capture`."""
        try:
            return self._captured(run, torch.cuda.graph_pool_handle())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise NotRecorded(f"a step of the optimiser: {one_line(error):.200}") from error

    def _captured(self, run: Run, pool: Any) -> Recorded:
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those that watch over connections, may go on meanwhile.
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = run()
        return Recorded(outputs, graph.replay)


class GraphCalls:
    """Calls that replay what a recorder has recorded of them; see `toolkit.training.spec.Calls`."""

    def __init__(self, record: Recorder) -> None:
        self._record = record
        self._owners: dict[nn.Module, _Owner] = {}
        self._parts: dict[Hashable, list[_Part]] = {}
        self._called: Counter[Hashable] = Counter()

    def begin(self) -> None:
        self._called.clear()
        for owner in self._owners.values():
            owner.begin()

    def padded(self, count: int, step: int) -> int:
        return -(-count // step) * step

    def __call__(self, function: Function, module: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        if (owner := self._owners.get(module)) is None:
            owner = self._owners[module] = _Owner(module)
        learns = torch.is_grad_enabled() and (bool(owner.parameters) or any(x.requires_grad for x in inputs))
        kinds = tuple((x.shape, x.dtype, learns and x.requires_grad) for x in inputs)
        key = (function, module, module.training, learns, _autocast_type(inputs), kinds)
        parts = self._parts.setdefault(key, [])
        number = self._called[key] if learns else 0
        self._called[key] += 1
        if number == len(parts):
            parts.append(_Part(function, owner, inputs, self._record, learns=learns))
        return parts[number](inputs)

    @property
    def count(self) -> int:
        """How many calls have been recorded."""
        return sum(map(len, self._parts.values()))


class _Owner:
    """The parameters of a module as graphs read them, and the sums of their gradients over a clip."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = [each for each in module.parameters() if each.requires_grad]
        # Their own leaves share the memory: what is recorded leaves no trace in the parameters' autograd.
        self.leaves = [nn.Parameter(each.detach()) for each in self.parameters]
        self._sums = FlatTensors([each.detach() for each in self.parameters])
        self._concerned: set[int] = set()
        self._token: Tensor | None = None

    def begin(self) -> None:
        """A clip begins."""
        self._token = None

    def token(self) -> Tensor | None:
        """What all of a clip's calls depend on, so that gradients leave when all have been added; None if none will."""
        if self._token is None and self.parameters:
            self.clear()
            self._token = _Entrance.apply(self, *self.parameters)  # type: ignore[no-untyped-call]
        return self._token

    def clear(self) -> None:
        """The sums are zero."""
        self._concerned.clear()
        self._sums.zero()

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Add those of a call; None where it has none."""
        pairs = [(total, x) for total, x in zip(self._sums.tensors, gradients, strict=True) if x is not None]
        if pairs:
            torch._foreach_add_([total for total, _ in pairs], [x for _, x in pairs])

    def concern(self, numbers: Sequence[int]) -> None:
        """These parameters have a gradient in this clip."""
        self._concerned.update(numbers)

    def gradients(self) -> list[Tensor | None]:
        """Copies of the sums; None for parameters that no call of the clip has a gradient for."""
        copies = self._sums.copies(self._concerned)
        return [copies.get(number) for number in range(len(self.parameters))]

    @contextmanager
    def of_leaves(self) -> Iterator[None]:
        """The module has its leaves as parameters."""
        own = dict(zip(map(id, self.parameters), self.leaves, strict=True))
        places = [
            (module, name, parameter)
            for module in self.module.modules()
            for name, parameter in module._parameters.items()
            if id(parameter) in own
        ]
        for module, name, parameter in places:
            module._parameters[name] = own[id(parameter)]
        try:
            yield
        finally:
            for module, name, parameter in places:
                module._parameters[name] = parameter

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """What is run to be recorded adds to no sums, and to no statistics of the module."""
        buffers = [(buffer, buffer.clone(), buffer._version) for buffer in self.module.buffers()]
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before, version in buffers:
                    if buffer._version != version:
                        buffer.copy_(before)
            self.clear()


class _Part:
    """A call of a function with tensors of certain sizes, at a certain place in a clip's order of such calls."""

    def __init__(
        self, function: Function, owner: _Owner, inputs: Sequence[Tensor], record: Recorder, *, learns: bool
    ) -> None:
        self._function, self._owner, self._learns = function, owner, learns
        self._inputs = [x.detach().clone().requires_grad_(learns and x.requires_grad) for x in inputs]
        self._wanted = [x for x in self._inputs if x.requires_grad]
        self._numbers: list[int] = []
        """Of the parameters that have a gradient."""
        self._incoming: list[Tensor] | None = None
        self._constants = _Constants()
        self._computed = tuple[Tensor, ...]()
        runs = [self._run_forward, self._run_backward] if learns else [self._run_forward]
        with owner.unchanged():
            try:
                recorded = record(runs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise NotRecorded(f"{function.__module__}.{function.__qualname__}: {one_line(error):.200}") from error
        self._forward, self._backward = recorded[0], recorded[1] if learns else None
        self._outputs = [each.detach() for each in self._forward.outputs if each is not None]
        self.differentiable = [learns and x.requires_grad for x in self._computed]

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self._learns:
            token = self._owner.token()
            outputs: tuple[Tensor, ...] = _Replay.apply(self, token, *inputs)  # type: ignore[no-untyped-call]
            return outputs
        return tuple(x.clone() for x in self.forward(inputs))  # the next call overwrites it

    @torch.no_grad()
    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, in memory that the next replay overwrites."""
        copy_all(self._inputs, inputs)
        self._forward.replay()
        return self._outputs

    @torch.no_grad()
    def backward(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Those of the inputs, from those of the outputs (None: zero), in memory that the next replay overwrites."""
        assert self._backward is not None
        assert self._incoming is not None
        given = [x for x, has in zip(gradients, self.differentiable, strict=True) if has]
        pairs = [(own, x) for own, x in zip(self._incoming, given, strict=True) if x is not None]
        for own, x in zip(self._incoming, given, strict=True):
            if x is None:
                own.zero_()
        copy_all([own for own, _ in pairs], [x for _, x in pairs])
        self._backward.replay()
        self._owner.concern(self._numbers)
        found = iter(self._backward.outputs)
        return [next(found) if x.requires_grad else None for x in self._inputs]

    def _run_forward(self) -> Tensors:
        # What autocast has converted it would keep, and not convert anew when a graph is replayed.
        device = self._inputs[0].device.type
        enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        autocast = torch.autocast(device, dtype, enabled, cache_enabled=False)
        with autocast, self._constants, self._owner.of_leaves():
            self._computed = self._function(self._owner.module, *self._inputs)
        return self._computed

    def _run_backward(self) -> Tensors:
        outputs = [x for x in self._computed if x.requires_grad]
        if self._incoming is None:
            self._incoming = [torch.zeros_like(x) for x in outputs]
        found = torch.autograd.grad(outputs, [*self._wanted, *self._owner.leaves], self._incoming, allow_unused=True)
        of_inputs, of_parameters = found[: len(self._wanted)], found[len(self._wanted) :]
        self._numbers = [number for number, x in enumerate(of_parameters) if x is not None]
        self._owner.add(of_parameters)
        return tuple(of_inputs)


class _Replay(torch.autograd.Function):
    """A call as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, part: _Part, token: Tensor | None, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.part = part
        ctx.set_materialize_grads(False)
        outputs = tuple([x.detach() for x in part.forward(inputs)])
        ctx.mark_non_differentiable(*(x for x, has in zip(outputs, part.differentiable, strict=True) if not has))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        part: _Part = ctx.part
        # Copies, for autograd may keep what it is given as the gradient of a parameter.
        return None, None, *(None if x is None else x.clone() for x in part.backward(gradients))


class _Entrance(torch.autograd.Function):
    """Where parameters enter the calls of a clip; backward it comes after all of them."""

    @staticmethod
    def forward(ctx: Any, owner: _Owner, *parameters: Tensor) -> Tensor:
        ctx.owner = owner
        return parameters[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.owner.gradients()


class _Constants(TorchFunctionMode):
    """Numbers become tensors once, before a graph is recorded: while it is, none may be copied to a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not Tensor.new_tensor:
            return func(*args, **kwargs)
        like, *numbers = args
        key = f"{numbers} {kwargs} {like.dtype} {like.device}"
        if key not in self._kept:
            self._kept[key] = func(*args, **kwargs)
        return self._kept[key]


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors, those of one type by one kernel."""
    for dtype in {x.dtype for x in targets}:
        pairs = [(own, x) for own, x in zip(targets, sources, strict=True) if own.dtype is dtype]
        torch._foreach_copy_([own for own, _ in pairs], [x for _, x in pairs])


def _autocast_type(inputs: Sequence[Tensor]) -> torch.dtype | None:
    device = inputs[0].device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
