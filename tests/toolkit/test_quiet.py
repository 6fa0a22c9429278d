"""What libraries tell their own developers stays off the terminal."""

from __future__ import annotations

import logging
import warnings

import pytest

from toolkit.engines.gpu.compiled.failures import compiling, preparing
from toolkit.quiet import TORCH_LOGS, quiet


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TORCH_LOGS, raising=False)


def chatter(name: str) -> None:
    """A library that warns, and logs by a logger with a level of its own and by one without."""
    warnings.warn("not enough of something", UserWarning, stacklevel=1)
    logging.getLogger(f"{name}.inner").warning("inner")
    logging.getLogger(f"{name}.inner.most").warning("most")
    logging.getLogger(name).warning("outer")
    logging.getLogger(name).error("broken")


def test_warnings_are_kept_off_and_errors_are_not(caplog: pytest.LogCaptureFixture) -> None:
    inner = logging.getLogger("a_library.inner")
    inner.setLevel(logging.INFO)
    with warnings.catch_warnings(record=True) as seen, quiet("a_library"):
        chatter("a_library")
        logging.getLogger("a_library_of_others").warning("other")
    assert seen == []
    assert [record.message for record in caplog.records] == ["broken", "other"]
    assert inner.level == logging.INFO
    assert logging.getLogger("a_library").level == logging.NOTSET


def test_who_asks_torch_for_its_logs_gets_them(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TORCH_LOGS, "recompiles")
    with warnings.catch_warnings(record=True, action="always") as seen, quiet("a_library"):
        chatter("a_library")
    assert len(seen) == 1
    assert len(caplog.records) == 4


@pytest.mark.parametrize("stage", [preparing, compiling])
def test_torch_is_quiet_while_the_network_is_compiled_for_a_gpu(
    stage: object, caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings(record=True) as seen, stage("a submodule"):  # type: ignore[operator]
        chatter("torch")
    assert seen == []
    assert [record.message for record in caplog.records] == ["broken"]
