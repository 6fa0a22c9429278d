"""Files that `convert` takes besides the checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cli.main import run

HEAD = """
import numpy as np
from toolkit.errors import InputError
from toolkit.hookspecs import hookimpl
from toolkit.specs import Asset, Submodule

def read(path, config):
    if not path.is_file():
        raise InputError(f"head priors {path} cannot be used: No such file; give the ones of the training")
    return np.zeros(3, np.float32)

@hookimpl
def uniad_submodules():
    return (Submodule("head", ("head.",), (), (), None, assets=(
        Asset("head.priors", read, option="--head-priors", meaning="The head's priors."),
        Asset("head.means", read),
    )),)
"""


@pytest.fixture
def head(tmp_path: Path) -> str:
    """A plugin file whose submodule has an asset with an option, and one without."""
    path = tmp_path / "head.py"
    path.write_text(HEAD)
    return str(path)


def convert(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a conversion that is refused."""
    assert run(["convert", "absent.pth", "-o", "absent", *arguments]) == 2
    return " ".join(capsys.readouterr().err.split())


def test_help_shows_the_options_that_assets_name(head: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "--help", "--plugin", head]) == 0
    printed = capsys.readouterr().out
    assert "--asset" in printed
    assert "--motion-anchors" in printed
    assert "--head-priors" in printed
    assert "The head's priors." in printed


@pytest.mark.parametrize(
    "option", [["--head-priors", "p.npy"], ["--asset", "head.priors=p.npy"], ["--asset=head.means=p.npy"]]
)
def test_the_reader_of_the_asset_gets_the_file(
    option: list[str], head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "head priors p.npy cannot be used: No such file" in convert(capsys, "--plugin", head, *option)


def test_motion_anchors_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    message = convert(capsys, "--asset", "motion_head.motion_anchors=absent.npy")
    assert message == convert(capsys, "--motion-anchors", "absent.npy")
    assert "motion anchors absent.npy cannot be read: No such file" in message


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("head.priors=p.npy", "--asset 'head.priors' is of no submodule; known: motion_head.motion_anchors"),
        ("p.npy", "--asset 'p.npy' is not KEY=FILE"),
        ("=p.npy", "--asset '=p.npy' is not KEY=FILE"),
    ],
)
def test_slips(option: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in convert(capsys, "--asset", option)
