"""Scenes at once on a GPU, by one thread, write what one scene after the other does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.toy_bundle import toy_frame, write_toy_bundle
from toolkit.batch.at_once import scenes_at_once
from toolkit.batch.finishing import Finisher, at_once
from toolkit.batch.scenes import split_scenes
from toolkit.batch.writer import SceneWriter
from toolkit.engines.gpu.kept import FOLDER_VARIABLE
from toolkit.engines.gpu.session import CudaGraphSession
from toolkit.plugin.manager import PluginManager
from toolkit.precision import Precision


def test_scenes_at_once_write_what_one_after_the_other_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte; also if each frame is prepared while the one before it runs."""
    monkeypatch.setenv(FOLDER_VARIABLE, "")
    plugins, bundle = PluginManager.load(), write_toy_bundle(tmp_path / "bundle")
    scenes = list(split_scenes([toy_frame(number, f"scene{number // 4}") for number in range(26)]))
    session = CudaGraphSession.of_bundle(bundle, plugins, precision=Precision.FP16, inductor=False)

    def written(name: str, count: int, decoders: int) -> dict[str, bytes]:
        folder = tmp_path / name
        folder.mkdir()
        sessions = [session] if count == 1 else session.beside(count)
        writers = [SceneWriter(bundle, each, plugins.submodules(), "evaluation", False, folder) for each in sessions]
        finishing = at_once(Finisher(folder, pictures=False), writers[0].means())
        run = (
            writers[0].run(scenes, finishing, decoders)
            if count == 1
            else scenes_at_once(writers, scenes, finishing, decoders)
        )
        assert [record.frame for record in run] == [frame.name for scene in scenes for frame in scene.frames]
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    in_turn = written("in turn", 1, 0)
    assert written("overlapped", 1, 4) == in_turn
    assert written("three at once", 3, 4) == in_turn
