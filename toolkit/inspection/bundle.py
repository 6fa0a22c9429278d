"""What a bundle was made from and can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolkit.bundle import Bundle, EngineRecord, SubmoduleRecord
from toolkit.inspection.weights import Share, shares
from toolkit.specs import Submodule
from toolkit.weights.checkpoint import read_checkpoint
from toolkit.weights.identity import identify


@dataclass(frozen=True)
class FileRecord:
    """A file of a bundle; `intact` says whether it is the one that the conversion wrote."""

    name: str
    bytes: int
    intact: bool


@dataclass(frozen=True)
class BundleReport:
    """Everything `inspect` says about a bundle.

    `shares` are the weights by submodule, as far as the submodules' plugins are loaded; `capacities` the sizes that
    were fixed at conversion, `conventions` what inputs and outputs mean; `results` leave the network without returning
    as state.
    """

    path: str
    kind: str
    provenance: Mapping[str, object]
    submodules: tuple[SubmoduleRecord, ...]
    shares: tuple[Share, ...]
    files: tuple[FileRecord, ...]
    capacities: Mapping[str, int]
    conventions: Mapping[str, str]
    results: tuple[str, ...]
    custom_ops: tuple[str, ...]
    parity: Mapping[str, object]
    engines: tuple[EngineRecord, ...]


def inspect_bundle(bundle: Bundle, submodules: Sequence[Submodule]) -> BundleReport:
    """Describe a bundle and check its files' digests. Raises InputError for weights that cannot be read."""
    config = bundle.config
    weights = read_checkpoint(bundle.weights).state_dict
    recurrent = {state.source for state in bundle.states}
    return BundleReport(
        path=str(bundle.path),
        kind=identify(weights),
        provenance=bundle.provenance,
        submodules=bundle.submodules,
        shares=shares(weights, submodules),
        files=tuple(
            FileRecord(name, (bundle.path / name).stat().st_size, bundle.is_intact(name)) for name in bundle.sha256
        ),
        capacities={
            "cameras": len(config.image.cameras),
            "track queries": config.tracking.queries,
            "track rows": config.tracking.track_capacity,
            "reported boxes": config.tracking.max_reports,
            "agents": config.tracking.agent_capacity,
            "map instances": config.map.max_instances,
        },
        conventions={"can_bus_rotation": config.can_bus_rotation, "yaw_convention": config.yaw_convention},
        results=tuple(spec.name for spec in bundle.results if spec.name not in recurrent),
        custom_ops=bundle.custom_ops,
        parity=bundle.parity,
        engines=bundle.engines,
    )
