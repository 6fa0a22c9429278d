"""The conversion: origins, versions, files, submodules with their parameters and nodes, graph passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from toolkit.bundle import Bundle
from toolkit.errors import InputError
from toolkit.graph.provenance import MODEL_KEY, earlier_passes
from toolkit.inspection.bundle import BundleReport, FileRecord, inspect_bundle
from toolkit.inspection.onnx_model import OnnxReport, inspect_onnx
from toolkit.report.contents import Check, Conversion, Facts, Table
from toolkit.report.texts import facts_of
from toolkit.specs import Submodule
from toolkit.text import mebibytes

ORIGIN = "checkpoint_sha256"
"""Names the checkpoint in a bundle's provenance and in the metadata of its ONNX model."""
_NESTED = ("meta", "tools", "left_out", "quantization")


def describe_conversion(bundle: Bundle, submodules: Sequence[Submodule]) -> Conversion:
    """What the bundle is. Raises InputError for files that cannot be read."""
    report, model = inspect_bundle(bundle, submodules), inspect_onnx(bundle.onnx)
    provenance = report.provenance
    left_out = facts_of(provenance.get("left_out"))
    altered = [file.name for file in report.files if not file.intact]
    return Conversion(
        kind=report.kind,
        facts=_origin(report, model),
        meta=facts_of(provenance.get("meta")),
        tools=facts_of(provenance.get("tools")),
        capacities=facts_of(report.capacities),
        conventions=facts_of(report.conventions),
        files=_file_table(report.files, bundle.sha256),
        submodules=_submodule_table(report, model),
        parameters=sum(share.parameters for share in report.shares),
        nodes=sum(model.nodes.values()),
        warnings=(
            *(f"{name} is not the file that the conversion wrote: convert again" for name in altered),
            *(f"submodule {name} was left out of the conversion: {reason}" for name, reason in left_out.items()),
        ),
    )


def check_files(conversion: Conversion) -> Check:
    """Whether the bundle's files are still those that the conversion wrote."""
    names = [row[0] for row in conversion.files.rows]
    altered = [names[i] for i in sorted(conversion.files.marked)]
    finding = f"{', '.join(altered)} altered since" if altered else f"all {len(names)} as the conversion wrote them"
    return Check("files", not altered, finding)


def describe_passes(bundle: Bundle, rewritten: Sequence[Path]) -> tuple[Table, ...]:
    """What graph passes changed in the `rewritten` models, and in ONNX files in the bundle's folder.

    Raises InputError for a file that cannot be read, or that was not made from the bundle's model.
    """
    models = {path: inspect_onnx(path) for path in (*sorted(bundle.path.glob("*.onnx")), *rewritten)}
    for path in rewritten:
        if models[path].metadata.get(ORIGIN) != bundle.provenance.get(ORIGIN):
            raise InputError(f"{path} was not rewritten from the model of {bundle.path}; rewrite that, or leave it out")
    return tuple(
        _pass_table(path.name, passes)
        for path, model in models.items()
        if (passes := earlier_passes(model.metadata.get(MODEL_KEY, "[]")))
    )


def _origin(report: BundleReport, model: OnnxReport) -> Facts:
    origin = {key: value for key, value in report.provenance.items() if key not in _NESTED}
    return facts_of({**origin, "custom_ops": report.custom_ops or "none", "opsets": model.opsets})


def _file_table(files: Sequence[FileRecord], digests: Mapping[str, str]) -> Table:
    return Table(
        "Files of the bundle",
        ("file", "MiB", "state", "sha256"),
        tuple(
            (file.name, mebibytes(file.bytes), "as written" if file.intact else "altered", digests[file.name])
            for file in files
        ),
        numeric=frozenset({1}),
        marked=frozenset(i for i, file in enumerate(files) if not file.intact),
    )


def _submodule_table(report: BundleReport, model: OnnxReport) -> Table:
    shares = {share.submodule: share for share in report.shares}
    rows = []
    for submodule in report.submodules:
        share = shares.get(submodule.name)
        weights = (f"{share.parameters:,}", mebibytes(share.bytes)) if share else ("plugin not loaded", "")
        nodes = f"{model.nodes.get(submodule.name, 0):,}"
        rows.append((submodule.name, submodule.plugin, *weights, nodes, ", ".join(submodule.outputs)))
    columns = ("submodule", "plugin", "parameters", "MiB", "ONNX nodes", "outputs")
    return Table("Submodules in the order of execution", columns, tuple(rows), numeric=frozenset({2, 3, 4}))


def _pass_table(name: str, entries: Sequence[object]) -> Table:
    keys = ("pass", "changes", "nodes_before", "nodes_after", "version")
    rows = tuple(tuple(str(entry.get(key, "?")) for key in keys) for entry in entries if isinstance(entry, dict))
    columns = ("pass", "changes", "nodes before", "nodes after", "toolkit")
    return Table(name, columns, rows, numeric=frozenset({1, 2, 3}))
