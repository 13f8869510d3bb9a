"""A new spool on a real disk."""

import pytest

from mta.spool.spool import Spool


@pytest.fixture
def spool(tmp_path):
    return Spool.open(str(tmp_path / "spool"))
