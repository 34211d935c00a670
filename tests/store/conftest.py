"""The store on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailstack.db import Database
from tests.databases import empty_database  # noqa: F401
from tests.store.harness import Harness


@pytest.fixture
def harness(empty_database: Database, tmp_path: Path) -> Harness:  # noqa: F811
    return Harness(empty_database, tmp_path)
