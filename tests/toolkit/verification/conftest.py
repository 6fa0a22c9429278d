"""What tests of verification share."""

from __future__ import annotations

import pytest

from tests.toolkit.toy_bundle import write_toy_bundle
from toolkit.bundle import Bundle


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The toolkit's own network at toy size."""
    return write_toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")
