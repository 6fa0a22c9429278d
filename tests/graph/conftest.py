"""Proofs of small models take one process for all of them: starting one takes longer than most of what it does."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import pytest

from toolkit.bounded.limits import Limits
from toolkit.bounded.process import BoundedProcess
from toolkit.graph import pipeline
from toolkit.graph.cleanup import constants


class LastingProcess(BoundedProcess):
    """Does not end with the block that uses it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def end(self) -> None:
        super().__exit__(None, None, None)


@pytest.fixture(scope="session")
def lasting_process() -> Iterator[LastingProcess]:
    """A process with limits that the models of these tests are far from."""
    process = LastingProcess(Limits(seconds=60, bytes=2**31))
    yield process
    process.end()


@pytest.fixture(autouse=True)
def one_process(lasting_process: LastingProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaced where tests are about limits, and about models that do not keep them."""
    for module in (pipeline, constants):
        monkeypatch.setattr(module, "BoundedProcess", lambda limits: lasting_process)
