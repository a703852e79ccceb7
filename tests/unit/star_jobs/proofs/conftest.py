from pathlib import Path

import pytest

from tests.support.proofs import Proven


@pytest.fixture
def proven(tmp_path: Path) -> Proven:
    """A checkpoint with a report, and nothing attested yet."""
    return Proven(tmp_path)
