"""Which engines a bundle has, and which of them runs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from toolkit.bundle import Bundle, EngineRecord
from toolkit.engines.tensorrt.library import Target, load_library
from toolkit.engines.tensorrt.sidecar import Sidecar
from toolkit.errors import InputError


def register_engine(bundle: Path, engine: Path, sidecar: Sidecar) -> bool:
    """Record an engine in its bundle; False, and nothing done, if it lies in another folder.

    The bundle is read anew, because other engines may have been built meanwhile.
    """
    if engine.resolve().parent != bundle.resolve():
        return False
    record = EngineRecord(
        file=engine.name,
        sha256=sidecar.sha256,
        target=sidecar.target,
        version=sidecar.version,
        capabilities=sidecar.capabilities,
        precision=sidecar.precision,
    )
    Bundle.read(bundle).with_engine(record).write()
    return True


def choose_engine(
    bundle: Bundle, capability: str, load: Callable[[Target], ModuleType] = load_library
) -> tuple[EngineRecord, ModuleType]:
    """The latest engine of a bundle for GPUs of a compute capability whose library is installed, and that library.

    Raises InputError if there is none; it says what is in the way of the latest.
    """
    remedy = f"build one here: uniad-toolkit build {bundle.path} --target {Target.TENSORRT.value}"
    if not bundle.engines:
        raise InputError(f"bundle {bundle.path} has no engine; {remedy}")
    faults = []
    for engine in reversed(bundle.engines):
        try:
            return engine, require_fit(bundle, engine, capability, load)
        except InputError as error:
            faults.append(f"{engine.file}: {error}")
    raise InputError(f"bundle {bundle.path} has no engine that runs here; {faults[0]}; or {remedy}")


def require_fit(
    bundle: Bundle, engine: EngineRecord, capability: str, load: Callable[[Target], ModuleType]
) -> ModuleType:
    """The library that an engine needs. Raises InputError if the engine does not run here, before it is loaded."""
    if not (bundle.path / engine.file).is_file():
        raise InputError("the file is missing")
    if capability not in engine.capabilities:
        built = ", ".join(engine.capabilities)
        raise InputError(f"built for compute capability {built}, and this GPU has {capability}")
    target = Target(engine.target)
    library = load(target)
    if library.__version__ != engine.version:
        raise InputError(f"built by {target.title} {engine.version}, and {library.__version__} is installed")
    return library
