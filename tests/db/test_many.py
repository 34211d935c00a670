"""Many rows in one statement, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, MetaData, Table, Text, select

from mailstack.db import Database
from mailstack.db.many import MOST, Insert, execute

_metadata = MetaData()
things = Table(
    "things",
    _metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("octets", LargeBinary),
)
INSERT = Insert(things, "id")


@pytest.fixture
def database(empty_database: Database) -> Database:
    _metadata.create_all(empty_database.engine)
    return empty_database


def names(db: Connection) -> dict[int, str]:
    return {row.id: row.name for row in db.execute(select(things))}


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, MOST, MOST + 1, 3 * MOST + 5])
def test_each_row_has_its_own_id(database: Database, number: int) -> None:
    before = database.write(INSERT.ids, [{"name": "before", "octets": None}])
    rows = [{"name": f"thing {n}", "octets": bytes([n % 256, 0])} for n in range(number)]
    ids = database.write(INSERT.ids, rows)
    found = database.read(names)
    assert [found[id_] for id_ in ids] == [row["name"] for row in rows]
    assert len(found) == number + len(before)


def test_octets_come_back_as_they_were(database: Database) -> None:
    content = bytes(range(256)) * 30
    database.write(INSERT.rows, [{"name": "100% of 'it'", "octets": content}])
    [row] = database.read(lambda db: db.execute(select(things)).all())
    assert (row.name, bytes(row.octets)) == ("100% of 'it'", content)


def test_for_each_of_many_values(database: Database) -> None:
    ids = database.write(INSERT.ids, [{"name": f"thing {n}", "octets": None} for n in range(MOST + 10)])
    found = database.write(execute, "SELECT name FROM things WHERE id IN {}", ids[: MOST + 3])
    assert len(found) == MOST + 3
    gone = database.write(execute, "DELETE FROM things WHERE id IN {} RETURNING name", ids[5:])
    assert len(gone) == MOST + 5
    assert database.write(execute, "DELETE FROM things WHERE id IN {}", ids[:2]) == []
    assert sorted(database.read(names)) == ids[2:5]
    assert database.write(execute, "SELECT name FROM things WHERE id IN {}", []) == []
