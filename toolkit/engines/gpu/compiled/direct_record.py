"""What a direct file holds, taken out of a module that Inductor generated and that has run."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from toolkit.engines.gpu.compiled.cuda_kernel import KINDS, POINTER, KernelForm
from toolkit.engines.gpu.compiled.direct import (
    CALL,
    EXTERN,
    LAUNCHER,
    RUNNER,
    SUFFIX,
    Recorded,
    known_names,
    read_direct,
    write_direct,
)
from toolkit.errors import InputError
from toolkit.storage.claims import claim_file
from toolkit.storage.outputs import new_file
from toolkit.text import one_line

REASON = ".reason"
"""The suffix of a file that says why there is no direct one."""
OF_THE_COMPILER = ("torch._inductor", "torch._dynamo", "inductor_prims")
"""What torch has only when its compiler is imported."""
CONSTANT = "constexpr"
"""The type of an argument that a binary has no place for."""
SCRATCH = ("global_scratch_size", "profile_scratch_size")
"""What says that a binary takes a pointer to memory of its own, and to how many bytes."""


class UnknownForm(Exception):
    """A module is not as this reads them; the message says what is unknown, in a few words."""


@contextmanager
def generated_modules() -> Iterator[list[ModuleType]]:
    """The modules with a part's function that Inductor loads within the block, known at its end."""
    found: list[ModuleType] = []
    before = len(_modules())
    yield found
    found += [module for module in _modules()[before:] if hasattr(module, CALL)]


def _modules() -> list[ModuleType]:
    """All that Inductor has loaded; to import it would have it start processes, which is for others to decide."""
    codecache = sys.modules.get("torch._inductor.codecache")
    return [] if codecache is None else codecache.PyCodeCache.modules


def keep_direct(
    file: Path, modules: Sequence[ModuleType], arguments: Sequence[Tensor], outputs: Sequence[Tensor]
) -> None:
    """Write the direct file that belongs to Inductor's `file`, of the last of `modules`, which gave these outputs.

    If it cannot be, a file beside it says why, and it is not tried again, but for want of memory or room.
    """
    path, reason = file.with_suffix(SUFFIX), file.with_suffix(REASON)
    if reason.exists() or not path.parent.is_dir():  # for others may have removed the entry, which is not made here
        return
    try:
        with new_file(claim_file(path, shared=True)) as work:  # other processes may look for it
            record_direct(work, modules[-1], arguments, outputs)
    except (InputError, OSError, torch.OutOfMemoryError):
        pass  # there is no room for it, or no leave
    except Exception as error:  # what a compiler has written may be anything
        with suppress(OSError):
            reason.write_text(one_line(error), encoding="utf-8")


def reasons(folder: Path) -> list[str]:
    """Why parts whose files lie there have no direct one, in the order of their files' names."""
    found = []
    for path in sorted(folder.glob(f"*{REASON}")):
        with suppress(OSError):
            found.append(path.read_text(encoding="utf-8", errors="replace"))
    return found


def record_direct(path: Path, module: ModuleType, arguments: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Write what a module does that computed these outputs. What is written does the same, to the bit.

    Raises UnknownForm for a module of another form, and OSError if the file cannot be written.
    """
    function, kernels = _function(module)
    recorded = {name: _kernel(name, kernel) for name, kernel in kernels.items()}
    write_direct(path, function, recorded)
    _require_same(read_direct(path)(*arguments), outputs)


def _require_same(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    if len(found) != len(wanted):
        raise UnknownForm(f"{len(found)} outputs in place of {len(wanted)}")
    for number, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if (a.dtype, a.shape, a.stride()) != (b.dtype, b.shape, b.stride()):
            raise UnknownForm(f"output {number} lies in memory in another way")
        if not torch.allclose(a, b, rtol=0, atol=0, equal_nan=True):
            raise UnknownForm(f"output {number} has other values")


def _function(module: ModuleType) -> tuple[str, dict[str, Any]]:
    """The source of all that `CALL` needs, but for known names and the kernels, which come with it."""
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner

    source, names = Path(str(module.__file__)).read_text(encoding="utf-8"), vars(module)
    known, statements = known_names(), _statements(ast.parse(source))
    kernels: dict[str, Any] = {}
    needed, wanted, unknown = set[ast.stmt](), [CALL], list[str]()
    while wanted:
        name = wanted.pop()
        value = names.get(name)
        if isinstance(value, CachingAutotuner):
            kernels[name] = value
        elif name in known and (name == EXTERN or value is known[name]):
            continue
        elif name not in names or name not in statements:
            unknown.append(name)
        elif statements[name] not in needed:
            needed.add(statements[name])
            unknown += _unknown_attributes(statements[name], names)
            wanted += _names_read(statements[name])
    if unknown:
        raise UnknownForm(f"names {', '.join(sorted(set(unknown)))}")
    kept = sorted(needed, key=lambda statement: statement.lineno)
    return "\n\n".join(ast.get_source_segment(source, statement) or "" for statement in kept) + "\n", kernels


def _statements(tree: ast.Module) -> dict[str, ast.stmt]:
    """What gives each name of a module its value, but for imports."""
    found: dict[str, ast.stmt] = {}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            found |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
    return found


def _names_read(statement: ast.stmt) -> set[str]:
    """Names that a statement has from elsewhere."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    own = {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    own |= {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    return {name.id for name in names if name.id not in own and not hasattr(builtins, name.id)}


def _unknown_attributes(statement: ast.stmt, names: Mapping[str, Any]) -> list[str]:
    """Functions that torch has not by that name, or has only with its compiler."""
    unknown = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            if isinstance(node.value, ast.Name) and node.value.id == EXTERN:
                if getattr(names[EXTERN], node.attr) is not getattr(torch, node.attr, None):
                    unknown.append(text)
            elif text.endswith(OF_THE_COMPILER):
                unknown.append(text)
    return unknown


def _kernel(name: str, kernel: Any) -> Recorded:
    """A kernel in the configuration that it has been tuned to."""
    from torch._inductor.runtime.triton_helpers import get_constexprs
    from torch._inductor.runtime.triton_heuristics import GridExpr

    if len(kernel.launchers) != 1:
        raise UnknownForm(f"{name} has {len(kernel.launchers)} launchers")
    result = next(r for r in kernel.compile_results if r.config is kernel.launchers[0].config)
    binary = result.kernel
    if not hasattr(binary, "asm"):
        raise UnknownForm(f"{name} is a {type(binary).__name__}")
    meta, types, arguments = binary.metadata, dict(binary.src.signature), list(binary.src.fn.arg_names)
    passed = [argument for argument in arguments if types.get(argument) != CONSTANT]
    scratch = [getattr(meta, size) for size in SCRATCH if hasattr(meta, size)]
    ordinary = meta.num_ctas == 1 and not getattr(meta, "launch_cooperative_grid", False) and not any(scratch)
    known = all(types[argument] in KINDS or types[argument].startswith(POINTER) for argument in passed)
    if list(types) != arguments or not ordinary or not known:
        raise UnknownForm(f"{name} of {types} with {meta}")
    grid = GridExpr.from_meta(result.inductor_meta, result.config)
    _, given, _ = result._get_arg_lists(arguments, get_constexprs(binary.src.fn))
    lines = [
        f"def {LAUNCHER}({', '.join(given)}, stream):",
        *grid.prefix,
        f"{RUNNER}({grid.x_grid}, {grid.y_grid}, {grid.z_grid}, stream, {', '.join(passed)})",
    ]
    form = KernelForm(
        meta.name,
        tuple(types[argument] for argument in passed),
        meta.num_warps,
        meta.shared,
        bool(getattr(meta, "launch_pdl", False)),
        len(scratch),
    )
    return "\n    ".join(lines) + "\n", form, binary.asm["cubin"]
