"""The sample that malformed inputs are made from."""

from __future__ import annotations

import pytest
import torch

from tests.corpus.case import Sample
from tests.corpus.sample import make_sample


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Converted once per run, in about half a minute."""
    torch.set_num_threads(1)
    return make_sample(tmp_path_factory.mktemp("sample"))
