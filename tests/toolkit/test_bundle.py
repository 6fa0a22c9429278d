"""The manifest of a converted network: what it keeps, and how damage shows."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from toolkit.bundle import EARLIER, MANIFEST, Bundle, EngineRecord, content_digest
from toolkit.config.model import CanBusRotation, YawConvention
from toolkit.errors import InputError
from toolkit.storage.files import sha256_file

JUNK: tuple[Any, ...] = (None, 7, "junk", [7], {"junk": 7})


@pytest.fixture
def written(bundle: Bundle) -> Bundle:
    """A bundle on disk, with made-up files."""
    files = {"functional": "model.onnx", "weights": "weights.safetensors"}
    for name in files.values():
        (bundle.path / name).touch()
    written = replace(
        bundle,
        files=files,
        sha256=dict.fromkeys(files.values(), "0" * 64),
        provenance={"checkpoint": "tiny.pth", "tools": {"torch": "2.6"}},
        parity={"frames": 4},
    )
    written.write()
    return written


def test_what_is_written_is_read(written: Bundle) -> None:
    assert Bundle.read(written.path) == written


def test_manifest_is_stable(written: Bundle) -> None:
    """The same bundle gives the same bytes."""
    before = (written.path / MANIFEST).read_bytes()
    Bundle.read(written.path).write()
    assert (written.path / MANIFEST).read_bytes() == before


def test_producer_of_a_tensor(written: Bundle) -> None:
    assert [written.producer(tensor) for tensor in ("moved", "driven", "plan")] == ["odometry", "odometry", "planner"]


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not a bundle: it has no bundle\.json; make one with `uniad-toolkit conv"):
        Bundle.read(tmp_path)


def test_missing_file(written: Bundle) -> None:
    written.weights.unlink()
    with pytest.raises(InputError, match=r"file weights\.safetensors is missing; convert again"):
        Bundle.read(written.path)


def damage(bundle: Bundle, manifest: Any) -> None:
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))


def intact(bundle: Bundle) -> Any:
    return json.loads((bundle.path / MANIFEST).read_text())


@pytest.mark.parametrize("other", [{"format": 1}, {"format": None}, [], "bundle"])
def test_other_format(other: Any, written: Bundle) -> None:
    damage(written, intact(written) | other if isinstance(other, dict) else other)
    with pytest.raises(InputError, match="format is not 2; convert again with this version"):
        Bundle.read(written.path)


def test_missing_field_is_named(written: Bundle) -> None:
    manifest = intact(written)
    for field in set(manifest) - {"format"}:
        damage(written, {name: value for name, value in manifest.items() if name != field})
        with pytest.raises(InputError, match=f"field '{field}' is missing; convert again"):
            Bundle.read(written.path)


def test_conventions_are_kept(written: Bundle) -> None:
    config = replace(written.config, can_bus_rotation=CanBusRotation.QUATERNION, yaw_convention=YawConvention.HEADING)
    replace(written, config=config).write()
    assert Bundle.read(written.path).config == config


@pytest.mark.parametrize("unsaid", [[*EARLIER], ["yaw_convention"]])
def test_a_bundle_that_does_not_say_its_conventions_means_what_it_did(unsaid: list[str], written: Bundle) -> None:
    """Not what is usual today; and that is said. Once it is written again, it says so itself."""
    manifest = intact(written)
    for name in unsaid:
        del manifest["config"][name]
    damage(written, manifest | {"digest": content_digest(manifest)})
    warnings: list[str] = []
    bundle = Bundle.read(written.path, warnings.append)
    assert {name: getattr(bundle.config, name) for name in unsaid} == {name: EARLIER[name] for name in unsaid}
    [warning] = warnings
    assert f"does not say {' and '.join(unsaid)}: it is run as " in warning
    bundle.write()
    assert Bundle.read(written.path, warnings.append) == bundle
    assert warnings == [warning]


def test_identity_is_of_one_network_fed_and_read_in_one_way(written: Bundle) -> None:
    """Results of one must not be taken for those of another: the files alone do not tell all."""
    names = {written.identity, replace(written, sha256={"model.onnx": "1" * 64}).identity}
    for change in ({"can_bus_rotation": CanBusRotation.QUATERNION}, {"yaw_convention": YawConvention.HEADING}):
        names.add(replace(written, config=replace(written.config, **change)).identity)
    assert len(names) == 4
    assert replace(written, parity={"frames": 9}).identity == Bundle.read(written.path).identity


def test_unknown_field_of_the_config_is_named(written: Bundle) -> None:
    manifest = intact(written)
    manifest["config"]["bev"]["depth"] = 3
    damage(written, manifest)
    with pytest.raises(InputError, match=r"in 'config': .*config\.bev: unknown field 'depth'; known fields: height"):
        Bundle.read(written.path)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every item in nested JSON containers."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


@pytest.mark.slow
def test_any_damage_shows(written: Bundle) -> None:
    """Whatever is replaced: even what reads as a good value no longer describes the network beside it."""
    manifest = intact(written)
    for *parents, last in places(manifest):
        for junk in JUNK:
            damaged = copy.deepcopy(manifest)
            container = damaged
            for key in parents:
                container = container[key]
            if container[last] == junk:
                continue
            container[last] = junk
            damage(written, damaged)
            with pytest.raises(InputError, match="convert again"):
                Bundle.read(written.path)


def test_engines_are_recorded(written: Bundle) -> None:
    """The latest last, one of each name; without any, the manifest is as it was."""
    before = (written.path / MANIFEST).read_bytes()
    first = EngineRecord("a.engine", "0" * 64, "tensorrt", "10.12.0", ("8.6",), "fp32")
    second, again = replace(first, file="b.engine"), replace(first, precision="fp16")
    built = written.with_engine(first).with_engine(second).with_engine(again)
    assert built.engines == (second, again)
    built.write()
    assert Bundle.read(written.path) == built
    replace(built, engines=()).write()
    assert (written.path / MANIFEST).read_bytes() == before


def test_damaged_record_of_an_engine(written: Bundle) -> None:
    for junk in (7, "junk", [7], [{"file": "a.engine"}]):
        damage(written, intact(written) | {"engines": junk})
        with pytest.raises(InputError, match=r"is damaged in 'engines': .*convert again"):
            Bundle.read(written.path)


def test_a_file_may_be_a_link(written: Bundle, tmp_path: Path) -> None:
    """As long as it lies in the bundle itself."""
    elsewhere = tmp_path.parent / "elsewhere.onnx"
    elsewhere.touch()
    written.onnx.unlink()
    written.onnx.symlink_to(elsewhere)
    assert Bundle.read(written.path) == written


@pytest.mark.parametrize("name", ["", "..", "/etc/passwd", "../other.onnx", "sub/model.onnx", "x" * 5000, "a\0b"])
def test_no_file_lies_outside(name: str, written: Bundle) -> None:
    """Whoever wrote the manifest."""
    replace(written, files={"functional": name, "weights": "weights.safetensors"}).write()
    with pytest.raises(
        InputError, match=r"\$\.files\.functional: expected the name of a file in the bundle, found .*; con"
    ):
        Bundle.read(written.path)


def test_a_bundle_without_a_form(written: Bundle) -> None:
    replace(written, files={"weights": "weights.safetensors"}).write()
    with pytest.raises(InputError, match="does not hold the form 'functional' of its network; convert again"):
        _ = Bundle.read(written.path).onnx


def test_files_are_those_of_the_conversion(written: Bundle) -> None:
    """An ONNX model has a second file, beside it."""
    (written.path / "model.onnx.data").write_bytes(b"weights")
    files = {path.name: sha256_file(path) for path in written.path.iterdir() if path.name != MANIFEST}
    sizes = {name: (written.path / name).stat().st_size for name in files}
    intact = replace(written, sha256=files, sizes=sizes)
    intact.require_intact("functional")
    replace(intact, sizes={}).require_intact("functional")  # as earlier versions wrote it
    (written.path / "model.onnx.data").write_bytes(b"others")
    intact.require_intact("weights")
    with pytest.raises(InputError, match=r"model\.onnx\.data is not the file that the conversion wrote; convert again"):
        intact.require_intact("functional")
