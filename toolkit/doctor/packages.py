"""Python and the packages: those that the toolkit cannot do without, and those that add something."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from platform import python_version
from types import ModuleType

from toolkit.doctor.check import Check, Status
from toolkit.text import one_line
from toolkit.versions import PACKAGE, package_version

OLDEST_PYTHON = (3, 11)
IMPORT_SECONDS = 60


@dataclass(frozen=True)
class Package:
    """A module, what to give to ``pip install`` for it, what it is for, and how to load it if not by its import."""

    module: str
    install: str
    purpose: str = ""
    load: str = ""

    @property
    def statement(self) -> str:
        return self.load or f"import {self.module}"


REQUIRED = (
    Package("torch", "torch"),
    Package("numpy", "numpy"),
    Package("scipy", "scipy"),
    Package("ml_dtypes", "ml-dtypes"),
    Package("msgspec", "msgspec"),
    Package("onnx", "onnx"),
    Package("onnx_ir", "onnx-ir"),
    Package("onnxscript", "onnxscript"),
    Package("onnxruntime", "onnxruntime"),
    Package("safetensors", "safetensors"),
    Package("cv2", "opencv-python-headless"),
    Package("matplotlib", "matplotlib"),
    Package("PIL", "pillow"),
    Package("jinja2", "jinja2"),
    Package("onnx_graphsurgeon", "onnx-graphsurgeon"),
    Package("pluggy", "pluggy"),
    Package("typer", "typer"),
    Package("rich", "rich"),
)

OPTIONAL = (
    Package("nuscenes", "'uniad-toolkit[nuscenes]'", "frames of nuScenes"),
    Package("imageio_ffmpeg", "'uniad-toolkit[video]'", "videos as .mp4"),
    Package("rerun", "'uniad-toolkit[rerun]'", "recordings for the Rerun viewer"),
    Package("ray", "'uniad-toolkit[ray]'", "scenes on the machines of a cluster"),
    Package("cupy", "'uniad-toolkit[cuda]'", "kernels of custom ops on a GPU"),
    Package("cuda.bindings", "'uniad-toolkit[cuda]'", "compiling kernels of custom ops"),
    Package("tensorrt", "'uniad-toolkit[tensorrt]'", "TensorRT"),
    Package(
        "tensorrt_rtx_bindings",
        "'uniad-toolkit[tensorrt-rtx]'",
        "TensorRT-RTX",
        "from toolkit.engines.tensorrt.rtx import load_tensorrt_rtx; load_tensorrt_rtx()",
    ),
)


def check_python() -> list[Check]:
    """The toolkit and the interpreter that runs it."""
    wanted = ".".join(map(str, OLDEST_PYTHON))
    old = sys.version_info < OLDEST_PYTHON
    return [
        Check(PACKAGE, Status.OK, package_version(PACKAGE)),
        Check(
            "python",
            Status.FAILED if old else Status.OK,
            f"{python_version()} at {sys.executable}",
            f"use Python {wanted} or later" if old else "",
        ),
    ]


def check_required(packages: Sequence[Package] = REQUIRED) -> list[Check]:
    """Import each package here."""
    owners = packages_distributions()
    return [_check_required(package, owners) for package in packages]


def _check_required(package: Package, owners: Mapping[str, Sequence[str]]) -> Check:
    try:
        module = importlib.import_module(package.module)
    # A broken binary can fail in any way.
    except Exception as error:
        return Check(package.module, Status.FAILED, one_line(error), f"pip install --force-reinstall {package.install}")
    return Check(package.module, Status.OK, installed_as(package.module, owners) + _providers(module))


def _providers(module: ModuleType) -> str:
    """The execution providers, if the module is ONNX Runtime."""
    if module.__name__ != "onnxruntime":
        return ""
    return f" with {', '.join(module.get_available_providers())}"


def check_optional(packages: Sequence[Package] = OPTIONAL) -> list[Check]:
    """Import each package that is installed in a process of its own: a broken driver may end it."""
    owners = packages_distributions()
    return [_check_optional(package, owners) for package in packages]


def _check_optional(package: Package, owners: Mapping[str, Sequence[str]]) -> Check:
    install = f"for {package.purpose}: pip install {package.install}"
    if not is_there(package.module):
        return Check(package.module, Status.NOTE, "not installed", install)
    found = installed_as(package.module, owners)
    fault = import_fault(package.statement)
    if fault:
        return Check(package.module, Status.NOTE, f"{found}, but cannot be imported: {fault}", install)
    return Check(package.module, Status.OK, found)


def check_shared_names(owners: Mapping[str, Sequence[str]] | None = None) -> list[Check]:
    """Other packages that hold a module of one of our names: they and the toolkit overwrite each other's files.

    `owners` are the packages of every importable name, those of this environment if not given.
    """
    owners = packages_distributions() if owners is None else owners
    checks = []
    for module, names in sorted(owners.items()):
        others = [name for name in names if name != PACKAGE]
        if PACKAGE in names and others:
            found = f"a module of {PACKAGE}, and of {installed_as(module, {module: others})}"
            remedy = f"install {PACKAGE} in an environment of its own: such packages overwrite each other's files"
            checks.append(Check(module, Status.NOTE, found, remedy))
    return checks


def is_there(module: str) -> bool:
    """Whether a module can be found; of a package, it is imported from the package."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def installed_as(module: str, owners: Mapping[str, Sequence[str]]) -> str:
    """Name and version of the packages that hold a module."""
    names = dict.fromkeys(owners.get(module.partition(".")[0], ()))
    return ", ".join(f"{name} {version(name)}" for name in names) or "of no installed package"


def import_fault(statement: str) -> str:
    """The last line that an import in a process of its own leaves behind if it fails, else nothing."""
    command = [sys.executable, "-c", statement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"it takes longer than {IMPORT_SECONDS} s"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
