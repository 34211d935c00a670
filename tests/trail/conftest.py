"""Both databases, empty."""

from tests.databases import empty_database

__all__ = ["empty_database"]
