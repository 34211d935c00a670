"""The store on both databases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailstack.db import Database
from tests.databases import made_database  # noqa: F401
from tests.store.harness import Harness


@pytest.fixture
def harness(
    made_database: Database,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Harness:
    """A store whose files need not outlive the machine: fsync costs more than all the rest."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return Harness(made_database, tmp_path)
