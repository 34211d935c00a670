"""Statements of the hot path, compiled once and given to the driver itself.

SQLAlchemy's execution of one statement costs several times what SQLite needs for it, and a delivery is six of
them: so they are SQLAlchemy's to write, and the driver's to run. Rows come as plain tuples, errors as the
driver's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Executable

SLICE = 1_000  # rows fetched at a time: the driver holds Python's lock meanwhile


def slices(cursor: Any) -> Iterator[Sequence[Any]]:
    """The rows of a driver's cursor, SLICE at a time; it is closed at the end."""
    try:
        while some := cursor.fetchmany(SLICE):
            yield some
    finally:
        cursor.close()


class Hot:
    """One statement whose values are all bound parameters; those that it has a value for may be left out."""

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns  # of an INSERT
        # By name of the database's dialect: text, order of the parameters, those that have a value.
        self._compiled: dict[str, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def run(self, db: Connection, parameters: dict[str, Any]) -> Any:
        """Execute; the driver's cursor."""
        sql, order, given = self._for(db)
        if given:
            parameters = given | parameters
        connection: Any = db.connection.dbapi_connection
        return connection.execute(sql, parameters if order is None else [parameters[key] for key in order])

    def run_many(self, db: Connection, parameters: Sequence[dict[str, Any]]) -> None:
        """Execute for each."""
        if len(parameters) == 1:
            self.run(db, parameters[0])
            return
        sql, order, given = self._for(db)
        if given:
            parameters = [given | row for row in parameters]
        rows = parameters if order is None else [[row[key] for key in order] for row in parameters]
        connection: Any = db.connection.dbapi_connection
        cursor = connection.cursor()
        cursor.executemany(sql, rows)
        cursor.close()

    def _for(self, db: Connection) -> tuple[str, list[str] | None, dict[str, Any]]:
        dialect = db.dialect.name
        known = self._compiled.get(dialect)
        if known is None:
            statement: Any = self._statement
            compiled = statement.compile(dialect=db.dialect, column_keys=self._columns)
            order = compiled.positiontup
            names: dict[Any, str] = compiled.bind_names
            given = {key: bind.value for bind, key in names.items() if not bind.required}
            known = (compiled.string, None if order is None else list(order), given)
            self._compiled[dialect] = known
        return known
