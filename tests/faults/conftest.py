"""The commands, each in a folder of its own where it has been run once."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.corpus.sample import make_sample
from tests.faults.bench import Bench
from tests.faults.commands import COMMANDS, WritingCommand, make_material
from tests.faults.forked import start_server
from tests.session_cache import SessionCache


@pytest.fixture(scope="session")
def sample(conversions: SessionCache) -> Path:
    return conversions.once("sample", make_sample)


@pytest.fixture(scope="session")
def material(sample: Path, conversions: SessionCache) -> Path:
    return conversions.once("faults", partial(make_material, sample=sample))


@pytest.fixture(scope="session")
def server() -> None:
    start_server()


@pytest.fixture(params=COMMANDS, ids=lambda command: command.name)
def bench(request: pytest.FixtureRequest, server: None, sample: Path, material: Path, tmp_path: Path) -> Bench:
    command: WritingCommand = request.param
    for module in command.needs:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    return Bench(command, tmp_path, sample=sample, material=material)
