"""Loading TensorRT for RTX from the packages of the extra ``tensorrt-rtx``."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

from toolkit.errors import InputError
from toolkit.storage.outputs import temporary_folder

BINDINGS = "tensorrt_rtx_bindings"
LIBRARIES = "onnxruntime_ep_nv_tensorrt_rtx"
INSTALL = "install it (Linux, x86-64) with: pip install 'uniad-toolkit[tensorrt-rtx]'"


@functools.cache
def load_tensorrt_rtx() -> ModuleType:
    """The Python module of TensorRT for RTX.

    Its bindings and its libraries come in two packages that do not know each other, and the parser later opens a name
    that neither has. All of them are therefore linked into one temporary folder and loaded from there: the bindings
    search the folder they lie in, and so does whatever they load. Raises InputError if a package is absent.
    """
    bindings, libraries = package_folder(BINDINGS), package_folder(LIBRARIES)
    stack = ExitStack()
    folder = stack.enter_context(temporary_folder("tensorrt-rtx"))
    atexit.register(stack.close)
    for file in bindings.iterdir():
        (folder / file.name).symlink_to(file)
    for library in ("libtensorrt_rtx.so", "libtensorrt_onnxparser_rtx.so"):
        versions = sorted(libraries.glob(f"{library}.*.*"))
        if not versions:
            raise InputError(f"{libraries} has no {library}; {INSTALL}")
        for link in (library, f"{library}.1"):
            (folder / link).symlink_to(versions[-1])
    return import_from(folder)


def package_folder(package: str) -> Path:
    """Where a package lies, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"TensorRT for RTX needs the package {package}, which is not installed; {INSTALL}")
    return Path(spec.origin).parent


def import_from(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        BINDINGS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[BINDINGS] = module
    spec.loader.exec_module(module)
    return module
