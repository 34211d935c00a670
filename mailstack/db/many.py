"""Many rows in one statement, for what every message passes through.

Theory of operation. A statement costs more than a row: SQLAlchemy's work on it, and, under load, the wait for
the interpreter's lock, which the driver lets go of once for each. So rows are written as many at a time as
there are, by statements for 1, 2, 4 .. MOST of them: texts few enough for the driver to keep them prepared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, Table

MOST = 32  # rows of one statement


class Insert:
    """Writes rows of all a table's columns but those `left_out`, which the database fills in."""

    def __init__(self, table: Table, *left_out: str) -> None:
        self._columns = [column.name for column in table.columns if column.name not in left_out]
        self._begin = f"INSERT INTO {table.name} ({', '.join(self._columns)}) VALUES "

    def rows(self, db: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write them. Raise DBAPIError; those before the one at fault may be written then."""
        for some in _slices(rows):
            db.exec_driver_sql(self._text(db, len(some)), self._values(some))

    def ids(self, db: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Write them; return the ids that the database gave them, in their order. Raise as `rows` does."""
        ids: list[int] = []
        for some in _slices(rows):
            statement, values = self._text(db, len(some)), self._values(some)
            if db.dialect.name == "sqlite":  # one above the other, as long as nobody else writes
                last = db.exec_driver_sql(statement, values).lastrowid
                ids += range(last - len(some) + 1, last + 1)
            else:
                given = db.exec_driver_sql(f"{statement} RETURNING id", values)
                ids += sorted(given.scalars())
        return ids

    def _text(self, db: Connection, number: int) -> str:
        return self._begin + _marks(_mark(db), len(self._columns), number)

    def _values(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple(row[name] for row in rows for name in self._columns)


def execute(db: Connection, statement: str, values: Sequence[Any]) -> list[Row[Any]]:
    """Run `statement` for as many `values` at a time as there are; return its rows, if it has any.

    Values stand in the place of its ``{}``, as in ``DELETE FROM some WHERE id IN {}``.
    """
    found: list[Row[Any]] = []
    for some in _slices(values):
        result = db.exec_driver_sql(statement.format(_marks(_mark(db), len(some), 1)), tuple(some))
        if result.returns_rows:
            found += result
    return found


def _slices(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The items, a power of two at a time."""
    start = 0
    while left := len(items) - start:
        number = min(MOST, 1 << (left.bit_length() - 1))
        yield items[start : start + number]
        start += number


def _mark(db: Connection) -> str:
    return "?" if db.dialect.name == "sqlite" else "%s"


@lru_cache(maxsize=200)
def _marks(mark: str, columns: int, rows: int) -> str:
    return ", ".join(["(" + ", ".join([mark] * columns) + ")"] * rows)
