"""Both databases, with all tables."""

from tests.databases import made_database

__all__ = ["made_database"]
