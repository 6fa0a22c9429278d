"""A submodule that cannot be compiled, in one line: which one, why, and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import CalledProcessError

from toolkit.errors import GPU_FAILURE, InputError
from toolkit.quiet import quiet
from toolkit.text import one_line

NO_COMPILER = ("Failed to find C compiler", "No working C++ compiler")
"""What Triton says, in an error of no type of its own, and what Inductor says."""


@contextmanager
def preparing(submodule: str) -> Iterator[None]:
    """Export and rewrite a submodule. Raises InputError for whatever its code, which may be anyone's, raises."""
    try:
        with quiet("torch"):
            yield
    except Exception as error:
        if str(error).startswith(GPU_FAILURE):
            raise
        raise _not_compiled(submodule, error) from error


@contextmanager
def compiling(submodule: str) -> Iterator[None]:
    """Call what compiles when it is called. Raises InputError if it does not compile; all other errors stay."""
    try:
        with quiet("torch", "triton"):
            yield
    except Exception as error:
        cause = getattr(error, "inner_exception", error)  # of an error of a compiler of torch.compile's
        if cause is not error and str(cause).startswith(GPU_FAILURE):
            raise cause from error
        if not _is_of_a_compiler(error):
            raise
        raise _not_compiled(submodule, cause) from error


def _is_of_a_compiler(error: Exception) -> bool:
    """torch.compile's, Triton's, or of the C compiler that Triton runs."""
    from torch._dynamo.exc import TorchDynamoException  # Inductor's as well

    named = [kind.__module__ for kind in type(error).__mro__]
    if isinstance(error, ImportError):
        named.append(error.name or "")
    from_triton = any(name.partition(".")[0] == "triton" for name in named)
    return from_triton or isinstance(error, TorchDynamoException | CalledProcessError) or _lacks_compiler(error)


def _lacks_compiler(error: Exception) -> bool:
    return any(words in str(error) for words in NO_COMPILER)


def _not_compiled(submodule: str, error: Exception) -> InputError:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some disk space"
    elif _lacks_compiler(error):
        remedy = "install gcc"
    else:
        remedy = "correct its plugin, or see `uniad-toolkit doctor`"
    reason = str(error) if isinstance(error, InputError) else one_line(error)
    return InputError(
        f"submodule {submodule!r} cannot be compiled for the GPU: {reason}; {remedy}; or use --session onnxruntime"
    )
