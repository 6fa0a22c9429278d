"""Where a rewritten network is kept, and for whom: a folder that others may have written is not used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.toolkit.engines.gpu.test_parts_file import CPU, Layer, parts_of
from toolkit.bundle import Bundle
from toolkit.engines.gpu import kept
from toolkit.engines.gpu.kept import bundle_parts, entry_of
from toolkit.errors import InputError
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision


def test_an_entry_is_of_one_bundle_device_precision_and_version(
    toy: Bundle, plugins: PluginManager, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = entry_of(toy, plugins, Precision.FP16, CPU)
    assert first.folder.parent == folder
    assert first.folder.name.startswith(f"{toy.identity[:12]}-cpu-fp16-")
    assert entry_of(toy, plugins, Precision.FP16, CPU) == first
    others = [entry_of(toy, plugins, Precision.FP32, CPU)]
    with monkeypatch.context() as patch:
        patch.setattr(kept, "installed_version", lambda package: "another")
        others.append(entry_of(toy, plugins, Precision.FP16, CPU))
    with monkeypatch.context() as patch:
        patch.setattr(kept, "device_name", lambda device: "NVIDIA H100 80GB HBM3 9.0")
        others.append(entry_of(toy, plugins, Precision.FP16, CPU))
    assert "-NVIDIA-H100-80GB-HBM3-9.0-fp16-" in others[-1].folder.name
    monkeypatch.setattr(kept, "sources_digest", lambda plugins: "another")
    others.append(entry_of(toy, plugins, Precision.FP16, CPU))
    assert len({entry.folder for entry in (first, *others)}) == 5


def test_plugin_files_are_a_part_of_the_code(plugins: PluginManager, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("from toolkit.hookspecs import hookimpl\n")
    other = PluginManager.load([own], warn=lambda _: None)
    assert kept.sources_digest(other) != kept.sources_digest(plugins) == kept.sources_digest(PluginManager.load())


@pytest.mark.parametrize("what", ["open", "foreign", "link", "file"])
def test_a_folder_that_others_may_have_written_is_not_used(
    toy: Bundle,
    plugins: PluginManager,
    folder: Path,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    folder.parent.mkdir()
    if what == "link":
        (folder.parent / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to("elsewhere")
    elif what == "file":
        folder.write_text("mine")
    else:
        folder.mkdir(mode=0o770 if what == "open" else 0o700)
        folder.chmod(0o770 if what == "open" else 0o700)
    if what == "foreign":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    made = parts_of(Layer(), torch.ones(2, 4))
    monkeypatch.setattr(kept, "load_network", lambda bundle, plugins: nn.Identity())
    monkeypatch.setattr(kept, "rewrite_network", lambda network, precision: made)
    assert bundle_parts(toy, plugins, Precision.FP32, CPU, warn=said.append)[0] is made
    (line,) = said
    assert line.startswith(f"the rewritten network is not kept: {folder} ")
    wanted = {"open": "is open to other users", "foreign": "belongs to another user"}
    assert wanted.get(what, "is not a folder") in line


def test_without_a_folder_nothing_is_kept_and_nothing_said(
    toy: Bundle, plugins: PluginManager, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kept.FOLDER_VARIABLE, "")
    monkeypatch.setattr(kept, "load_network", lambda bundle, plugins: nn.Identity())
    monkeypatch.setattr(kept, "rewrite_network", lambda network, precision: [])
    assert bundle_parts(toy, plugins, Precision.FP32, CPU, warn=said.append) == ([], None)
    assert said == []
    with pytest.raises(InputError, match="is empty, so nothing is kept"):
        entry_of(toy, plugins, Precision.FP32, CPU)


def test_it_is_in_the_users_cache_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(kept.FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept.kept_root() == tmp_path / "uniad-toolkit" / "networks"


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(kept.FOLDER_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InputError, match="name one in XDG_CACHE_HOME"):
        kept.kept_root()
