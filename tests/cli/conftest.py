from __future__ import annotations

import pytest

from tests.cli.command import Asyncrt


@pytest.fixture
def asyncrt(root: str) -> Asyncrt:
    """The command `asyncrt` on a fresh root."""
    return Asyncrt(root)
