"""The directory's tables, on both databases."""

from __future__ import annotations

import pytest

from mailstack.db import Database
from tests.databases import made_database

__all__ = ["database", "made_database"]


@pytest.fixture
def database(made_database: Database) -> Database:
    return made_database
