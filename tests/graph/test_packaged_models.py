"""Trained models that ship in packages go through the default passes; those of packages that are not here are skipped.

``pip install --no-deps magika nudenet rapidocr rapidocr-onnxruntime silero-vad`` brings them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest

from toolkit.cli.main import run

pytestmark = pytest.mark.slow
PACKAGES = ("magika", "nudenet", "rapidocr", "rapidocr_onnxruntime", "silero_vad")


def packaged_models(package: str) -> list[Path]:
    """The ONNX files of a package, which is not imported; none if it is not installed."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return sorted(path for folder in folders or () for path in Path(folder).rglob("*.onnx"))


@pytest.mark.parametrize("package", PACKAGES)
def test_trained_models_are_rewritten_and_run(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = packaged_models(package)
    if not models:
        pytest.skip(f"{package} is not installed")
    for path in models:
        assert run(["rewrite", str(path), "-o", str(tmp_path / "out.onnx")]) == 0, path.name
        assert "equal in ONNX Runtime on random inputs" in capsys.readouterr().out, path.name
        onnx.checker.check_model(tmp_path / "out.onnx")
