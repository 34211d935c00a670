"""The migrations make the tables that the code declares, on both databases."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from mailstack.db import Database, DatabaseConfig, metadata, schema
from tests.databases import DECLARED

assert DECLARED  # all tables are on `metadata`


def tables(db: Connection) -> set[str]:
    return set(inspect(db).get_table_names())


def test_the_head_that_the_server_compares_is_the_newest_change() -> None:
    config = Config()
    config.set_main_option("script_location", "mailstack.db:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


class TestContract:
    def test_a_new_database_gets_every_table(self, empty_database: Database) -> None:
        assert schema.version(empty_database) is None
        assert not schema.is_current(empty_database)
        assert schema.upgrade(empty_database) == (None, schema.HEAD)
        assert schema.is_current(empty_database)
        assert empty_database.read(tables) == {*metadata.tables, "alembic_version"}

    def test_again_changes_nothing(self, empty_database: Database) -> None:
        schema.upgrade(empty_database)
        assert schema.upgrade(empty_database) == (schema.HEAD, schema.HEAD)

    def test_the_result_is_what_the_code_declares(self, empty_database: Database) -> None:
        schema.upgrade(empty_database)

        def differences(db: Connection) -> list[Any]:
            def concerns(item: Any, *_: object) -> bool:
                only = getattr(item, "info", {}).get("only")
                return only is None or bool(only == db.dialect.name)

            options = {"compare_type": True, "compare_server_default": True, "include_object": concerns}
            return list(compare_metadata(MigrationContext.configure(db, opts=options), metadata))

        assert empty_database.read(differences) == []

    def test_details_that_the_comparison_does_not_see(self, empty_database: Database, tmp_path: Path) -> None:
        """Conditions of indexes, cascades, AUTOINCREMENT: against tables made from the declarations."""
        schema.upgrade(empty_database)
        migrated = empty_database.read(details)
        with empty_database.engine.connect() as db, db.begin():
            for name in sorted(migrated):
                db.execute(text(f"DROP TABLE {name}{'' if empty_database.is_sqlite else ' CASCADE'}"))
            metadata.create_all(db)
        assert empty_database.read(details) == migrated

    def test_a_failure_half_way_leaves_nothing(
        self,
        empty_database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from alembic.operations import Operations

        made: list[str] = []
        create_table = Operations.create_table

        def fail_at_last(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
            if name == "queue_entries":
                raise OSError("power cut")
            made.append(name)
            return create_table(self, name, *args, **kwargs)

        monkeypatch.setattr(Operations, "create_table", fail_at_last)
        with pytest.raises(OSError, match="power cut"):
            schema.upgrade(empty_database)
        assert "messages" in made
        assert empty_database.read(tables) == set()
        monkeypatch.undo()
        assert schema.upgrade(empty_database) == (None, schema.HEAD)

    def test_a_database_of_a_newer_program_is_left_alone(self, empty_database: Database) -> None:
        schema.upgrade(empty_database)
        empty_database.write(
            lambda db: db.execute(text("UPDATE alembic_version SET version_num = '9999'")) and None
        )
        assert not schema.is_current(empty_database)
        with pytest.raises(schema.SchemaTooNew, match="9999"):
            schema.upgrade(empty_database)
        assert schema.version(empty_database) == "9999"


def clauses(sql: str) -> list[str]:
    """A table's columns and constraints in any order (ALTER TABLE adds columns last); an index word for word."""
    head, opening, rest = " ".join(sql.split()).partition("(")
    inside, _, tail = rest.rpartition(")") if head.startswith("CREATE TABLE") else (rest, "", "")
    found, depth = [""], 0
    for character in inside:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return sorted([head, opening, tail, *(" ".join(clause.split()) for clause in found)])


def details(db: Connection) -> dict[str, Any]:
    """What the database itself says of its tables."""
    if db.dialect.name == "sqlite":
        query = "SELECT name, tbl_name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'sqlite%'"
        rows = [row for row in db.execute(text(query)) if row.tbl_name != "alembic_version"]
        found: dict[str, Any] = {}
        for row in rows:
            found.setdefault(row.tbl_name, {})[row.name] = clauses(row.sql or "")
        return found
    inspector = inspect(db)
    return {
        name: {
            "columns": sorted(
                str(sorted(map(str, column.items()))) for column in inspector.get_columns(name)
            ),
            "indexes": sorted(str(sorted(map(str, index.items()))) for index in inspector.get_indexes(name)),
            "foreign": sorted(str(sorted(map(str, key.items()))) for key in inspector.get_foreign_keys(name)),
            "unique": sorted(str(key) for key in inspector.get_unique_constraints(name)),
            "primary": str(inspector.get_pk_constraint(name)),
        }
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_a_configuration_serves_as_well_as_a_database(tmp_path: Path) -> None:
    config = DatabaseConfig(f"sqlite:///{tmp_path / 'a.db'}")
    assert schema.upgrade(config) == (None, schema.HEAD)
    assert schema.is_current(config)


def test_asking_for_the_version_does_not_import_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from mailstack.db import DatabaseConfig, schema\n"
        f"print(schema.is_current(DatabaseConfig('sqlite:///{tmp_path / 'a.db'}')), 'alembic' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


def test_names_of_mailboxes_are_written_in_normal_form_c(empty_database: Database) -> None:
    """Step 0008: one that is there in both forms keeps both, as it is."""
    schema.upgrade(empty_database)
    step = importlib.import_module("mailstack.db.migrations.versions.v0008_access")

    def names(db: Connection) -> list[str]:
        db.execute(text("INSERT INTO domains (id, name, created) VALUES (1, 'a.test', 0)"))
        db.execute(
            text(
                "INSERT INTO users (id, domain_id, address, password_hash, enabled, created)"
                " VALUES (1, 1, 'a@a.test', 'x', :yes, 0)"
            ),
            {"yes": True},
        )
        for name in ("u\u0308", "plain", "o\u0308", "\u00f6"):
            row = {"name": name}
            db.execute(text("INSERT INTO subscriptions (user_id, name) VALUES (1, :name)"), row)
        with Operations.context(MigrationContext.configure(db)):
            step._normalize("subscriptions")
        return sorted(db.execute(text("SELECT name FROM subscriptions")).scalars())

    assert empty_database.write(names) == sorted(["\u00fc", "plain", "o\u0308", "\u00f6"])
