"""A rewritten part compiled by Inductor without torch.compile's analysis of Python: its graph is known already.

What is compiled is one file, which a later process reads instead: nothing is traced, lowered or compiled then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from toolkit.engines.gpu.compiled.direct import ALIGNED, SUFFIX, DirectPart, read_direct
from toolkit.engines.gpu.compiled.direct_record import generated_modules, keep_direct
from toolkit.errors import InputError
from toolkit.storage.claims import claim_file
from toolkit.storage.outputs import new_file


class FusedPart:
    """A function of a part's inputs, compiled at the first call, or read from a file of `folder` if that has been.

    Its constants are looked up at every call, so that they may be renewed (`toolkit.engines.gpu.compiled.counters`).
    """

    def __init__(self, module: GraphModule, name: str, folder: Path | None = None) -> None:
        """The name of a file in `folder`, if given, begins with `name`."""
        self._module, self._name, self._folder = module, name, folder
        self._constants = constant_names(module)
        self._graph = str(module.graph)
        self._compiled: DirectPart | None = None

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arguments = [*(attrgetter(name)(self._module) for name in self._constants), *inputs]
        if self._compiled is None:
            return self._first(arguments)
        return self._compiled(*arguments)

    def _first(self, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The first call, after which the part is compiled, and its files are there if there is a folder."""
        file = self._file(arguments)
        if file is not None:
            with suppress(Exception):  # whatever is wrong with it, Inductor does the same
                direct = read_direct(file.with_suffix(SUFFIX))
                outputs, self._compiled = direct(*arguments), direct
                return outputs
        with generated_modules() as modules:
            compiled: DirectPart = _read(file) or _compiled(self._module, arguments, file)
        outputs, self._compiled = compiled(*arguments), compiled
        if file is not None:
            keep_direct(file, modules, arguments, outputs)
        return outputs

    def _file(self, arguments: Sequence[Tensor]) -> Path | None:
        name = f"{self._name}-{_digest(self._graph, arguments)}.bin"
        return None if self._folder is None else self._folder / name


def _digest(graph: str, arguments: Sequence[Tensor]) -> str:
    """Of all that code is compiled for."""
    layouts = [(x.dtype, tuple(x.shape), x.stride(), x.device, x.data_ptr() % ALIGNED == 0) for x in arguments]
    return hashlib.sha256(f"{graph}{layouts}".encode()).hexdigest()[:12]


def _read(file: Path | None) -> Any:
    if file is None or not file.is_file():
        return None
    with no_workers():
        from torch._inductor.standalone_compile import CompiledArtifact

        try:
            return CompiledArtifact.load(path=str(file), format="binary")
        except Exception:  # it is damaged, in whatever way: it is made again
            return None


@contextmanager
def no_workers() -> Iterator[None]:
    """Within the block, Inductor starts no processes to compile with, which take seconds to end.

    It does as soon as it is imported, not when it has to compile. What is compiled after the block has its processes.
    """
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield


def _compiled(module: GraphModule, arguments: Sequence[Tensor], file: Path | None) -> Any:
    from torch._inductor import config, standalone_compile

    # Kernels may start while the one before them ends, as ours do, where torch knows how.
    patches: dict[str, Any] = {"triton.enable_pdl": True} if hasattr(config.triton, "enable_pdl") else {}
    if hasattr(config, "use_static_cuda_launcher"):
        patches["use_static_cuda_launcher"] = False  # which forgets the binary that a direct file holds
    artifact = standalone_compile(
        lifted(module), list(arguments), dynamic_shapes="from_example_inputs", options={"config_patches": patches}
    )
    if file is not None:
        # What torch cannot write, or there is no room for, is compiled again by the next process.
        with suppress(RuntimeError, AssertionError, OSError, InputError):
            file.parent.mkdir(mode=0o700, exist_ok=True)
            with new_file(claim_file(file, shared=True)) as work:  # other processes may look for it
                artifact.save(path=str(work), format="binary")
    return artifact


def constant_names(module: GraphModule) -> list[str]:
    return list(dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "get_attr"))


def lifted(module: GraphModule) -> GraphModule:
    """The module with its constants as inputs before all others, in the order of their names; outputs are a tuple."""
    graph, values = Graph(), dict[Node, Node]()
    constants = {name: graph.placeholder(f"constant_{n}") for n, name in enumerate(constant_names(module))}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node] = constants[str(node.target)]
        elif node.op == "output":
            given = torch.fx.map_arg(node.args[0], values.__getitem__)
            graph.output(tuple(given) if isinstance(given, tuple | list) else (given,))
        else:
            values[node] = graph.node_copy(node, values.__getitem__)
    return GraphModule({}, graph)
