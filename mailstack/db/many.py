"""Many rows in one statement, for what every message passes through.

Theory of operation. A statement costs more than a row: SQLAlchemy's work on it, and, under load, the wait for
the interpreter's lock, which the driver lets go of once for each. So rows are written as many at a time as
there are, by statements for 1, 2, 4 .. MOST of them: texts few enough for the driver to keep them prepared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

MOST = 32  # rows of one statement


class Insert:
    """Writes rows of all a table's columns but those `left_out`, which the database fills in.

    With `new_only`, a row whose key is there already is passed over.
    """

    def __init__(self, table: Table, *left_out: str, new_only: bool = False) -> None:
        self._columns = [column.name for column in table.columns if column.name not in left_out]
        self._begin = f"INSERT INTO {table.name} ({', '.join(self._columns)}) VALUES "
        self._end = " ON CONFLICT DO NOTHING" if new_only else ""

    def rows(self, db: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write them; return how many. Raise DBAPIError."""
        return sum(
            _run(db, self._text(db, len(some)) + self._end, self._values(some)).rowcount
            for some in _slices(rows)
        )

    def ids(self, db: Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
        """Write them; return the ids that the database gave them, in their order. Raise DBAPIError."""
        ids: list[int] = []
        for some in _slices(rows):
            statement, values = self._text(db, len(some)), self._values(some)
            if db.dialect.name == "sqlite":  # one above the other, as long as nobody else writes
                last = _run(db, statement, values).lastrowid
                ids += range(last - len(some) + 1, last + 1)
            else:
                ids += sorted(row[0] for row in _run(db, f"{statement} RETURNING id", values))
        return ids

    def _text(self, db: Connection, number: int) -> str:
        return self._begin + _marks(_mark(db), len(self._columns), number)

    def _values(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple(row[name] for row in rows for name in self._columns)


def execute(db: Connection, statement: str, values: Sequence[Any]) -> list[Sequence[Any]]:
    """Run `statement` for as many `values` at a time as there are; return its rows, if it has any.

    Values stand in the place of its ``{}``, as in ``DELETE FROM some WHERE id IN {}``. Raise DBAPIError.
    """
    found: list[Sequence[Any]] = []
    for some in _slices(values):
        result = _run(db, statement.format(_marks(_mark(db), len(some), 1)), tuple(some))
        if "RETURNING" in statement or statement.startswith("SELECT"):
            found += result
    return found


def _run(db: Connection, statement: str, values: tuple[Any, ...]) -> Any:
    """The cursor after a statement: on SQLite the driver's own, which costs a fifth of SQLAlchemy's."""
    if db.dialect.name != "sqlite":
        return db.exec_driver_sql(statement, values)
    driver: Any = db.connection.dbapi_connection
    try:
        return driver.execute(statement, values)
    except sqlite3.Error as error:
        raise DBAPIError.instance(statement, None, error, sqlite3.Error) from error


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
