"""The commands, each in a folder of its own where it has been run once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.corpus.case import Sample
from tests.corpus.conftest import sample  # noqa: F401
from tests.faults.bench import Bench
from tests.faults.commands import COMMANDS, WritingCommand, make_material
from tests.faults.forked import start_server
from tests.session_cache import SessionCache


@pytest.fixture(scope="session")
def material(sample: Sample, conversions: SessionCache) -> Path:  # noqa: F811
    return conversions.once("faults", partial(make_material, sample=sample.folder))


@pytest.fixture(scope="session")
def server() -> None:
    start_server()


@pytest.fixture(params=COMMANDS, ids=lambda command: command.name)
def bench(request: pytest.FixtureRequest, server: None, sample: Sample, material: Path, tmp_path: Path) -> Bench:  # noqa: F811
    command: WritingCommand = request.param
    line = command.line.format(sample=sample.folder, material=material)
    return Bench(command, line, tmp_path, material)
