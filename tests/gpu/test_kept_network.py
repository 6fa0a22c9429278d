"""What the GPU session keeps from one start to the next computes what was made, and `warm` makes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.toolkit.toy_bundle import CONFIG, write_toy_bundle
from toolkit.cli.main import run
from toolkit.data.probe import probe_frames
from toolkit.engines.gpu import kept
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision
from toolkit.runtime.temporal_runner import TemporalRunner


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where networks are kept."""
    monkeypatch.setenv(kept.FOLDER_VARIABLE, str(tmp_path / "kept"))
    for variable in kept.COMPILERS:
        monkeypatch.setenv(variable, "")  # so that it is as before after the test
        monkeypatch.delenv(variable)
    return tmp_path / "kept" / "networks"


def test_a_second_start_gives_the_results_of_the_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, without torch.compile, which may choose other kernels; and without exporting anything."""
    plugins, said = PluginManager.load(), list[str]()
    bundle = write_toy_bundle(tmp_path / "bundle", plugins)

    def results(root: str) -> list[dict[str, np.ndarray]]:
        monkeypatch.setenv(kept.FOLDER_VARIABLE, root)
        session = CudaGraphSession.of_bundle(
            bundle, plugins, precision=Precision.FP16, inductor=False, warn=said.append
        )
        runner = TemporalRunner(bundle, session)
        return [dict(runner.step(frame)) for frame in probe_frames(CONFIG, 3, scene_change=2)]

    fresh, first = results(""), results(str(folder.parent))
    monkeypatch.setattr(kept, "rewrite_network", None)
    second = results(str(folder.parent))
    assert said == []
    for one, *others in zip(fresh, first, second, strict=True):
        for other in others:
            for name, array in one.items():
                np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_warm_keeps_what_compilers_made(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_toy_bundle(tmp_path / "bundle", without=("occupancy", "map_segmentation", "motion", "planning"))
    arguments = ["warm", str(tmp_path / "bundle"), "--session", "cuda", "--precision", "fp16"]
    assert run(arguments) == 0
    (entry,) = folder.iterdir()
    assert {path.name for path in entry.iterdir()} == {kept.PARTS, kept.COMPILED, *kept.COMPILERS.values()}
    assert capsys.readouterr().err == ""
    assert run(arguments) == 0
