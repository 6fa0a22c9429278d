"""The sample that malformed inputs are made from."""

from __future__ import annotations

import pytest
import torch

from tests.corpus.case import Sample
from tests.corpus.sample import make_sample
from tests.session_cache import SessionCache


@pytest.fixture(scope="session")
def sample(conversions: SessionCache) -> Sample:
    """Converted once per run, in about half a minute."""
    torch.set_num_threads(1)
    return Sample(conversions.once("sample", make_sample))
