"""The command line as a whole: help, settings, status of exit, a real process."""

from __future__ import annotations

import importlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from mailstack.admin.cli import _COMMANDS, cli
from mailstack.admin.operator import Operator
from mailstack.admin.output import Size, moment, plain, size, visible
from mailstack.db.schema import HEAD
from mailstack.directory import verbs
from mailstack.directory.passwords import Passwords
from mailstack.directory.settings import DirectoryConfig
from tests.admin.conftest import Installation
from tests.databases import database_url

PROGRAM = [sys.executable, "-c", "from mailstack.admin.cli import main; main()"]
OURS = ("domain", "user", "alias", "mailbox", "queue", "db", "status")


def leaves(name: str) -> list[tuple[str, click.Command]]:
    command = importlib.import_module(_COMMANDS[name][0]).command
    if isinstance(command, click.Group):
        return [(f"{name} {inner}", leaf) for inner, leaf in command.commands.items()]
    return [(name, command)]


class TestHelp:
    def test_it_names_every_command_and_imports_none(self) -> None:
        program = (
            "import sys\nfrom mailstack.admin.cli import cli\n"
            "try: cli(['--help'])\n"
            "finally: print(sorted({'sqlalchemy', 'twisted', 'pydantic', 'alembic', 'passlib'} & set(sys.modules)))"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert all(f"\n  {name} " in ran.stdout for name in _COMMANDS)
        assert ran.stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize("name", OURS)
    def test_each_command_has_an_example_and_json(self, name: str) -> None:
        for path, leaf in leaves(name):
            words = leaf.help or ""
            assert f"mailstack {path}" in words, path
            assert "--json" in {option for parameter in leaf.params for option in parameter.opts}, path
            shown = CliRunner().invoke(cli, [*path.split(), "--help"])
            assert shown.exit_code == 0
            assert "Example" in shown.output

    @pytest.mark.parametrize("name", ["domain list", "user list", "alias list", "mailbox list", "queue list"])
    def test_each_list_tells_its_columns(self, name: str) -> None:
        assert "Columns in a pipe: " in dict(leaves(name.split()[0]))[name].help  # type: ignore[operator]

    def test_version(self) -> None:
        assert CliRunner().invoke(cli, ["--version"]).output.startswith("mailstack, version 0.1")

    def test_an_unknown_command(self) -> None:
        assert CliRunner().invoke(cli, ["frobnicate"]).exit_code == 2


class TestSettings:
    def test_without_a_file(self) -> None:
        result = CliRunner(env={"MAILSTACK_CONFIG": None}).invoke(cli, ["domain", "list"])
        assert result.exit_code == 2
        assert "MAILSTACK_CONFIG" in result.stderr

    def test_the_environment_names_it(self, installation: Installation) -> None:
        runner = CliRunner(env={"MAILSTACK_CONFIG": str(installation.file)})
        assert runner.invoke(cli, ["domain", "list"]).stdout.startswith("example.org\t0\t0\t")

    def test_every_mistake_is_told(self, installation: Installation) -> None:
        result = installation.run("--set", "nonsense=1", "--set", "work.readers='x'", "domain", "list")
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 2
        assert "nonsense" in result.stderr
        assert "work.readers" in result.stderr

    def test_set_lays_over_the_file(self, installation: Installation, tmp_path: Path) -> None:
        result = installation.run("--set", f'database.url="sqlite:///{tmp_path}/none.db"', "domain", "list")
        assert result.exit_code == 1
        assert "there is no database yet: run mailstack db upgrade" in result.stderr
        assert not (tmp_path / "none.db").exists()


class TestDatabase:
    def test_check(self, installation: Installation) -> None:
        assert installation.json("db", "check") == {"version": HEAD, "current": True}

    def test_upgrade_makes_a_database(self, installation: Installation, tmp_path: Path) -> None:
        override = ("--set", f'database.url="sqlite:///{tmp_path}/new.db"')
        assert installation.ok(*override, "db", "upgrade") == f"upgraded from nothing to {HEAD}\n"
        assert installation.ok(*override, "db", "upgrade") == f"current: {HEAD}\n"
        assert installation.ok(*override, "domain", "add", "b.example") == "b.example added\n"

    @pytest.mark.parametrize(
        ("found", "words"), [("0000", "run mailstack db upgrade"), ("9999", "newer mailstack")]
    )
    def test_tables_of_another_version_are_not_touched(
        self, installation: Installation, found: str, words: str
    ) -> None:
        installation.write(
            lambda db: db.execute(text(f"UPDATE alembic_version SET version_num='{found}'")) and None
        )
        for command in (("db", "check"), ("domain", "list"), ("domain", "add", "b.example")):
            assert words in installation.refused(*command)

    def test_a_newer_database_is_not_upgraded(self, installation: Installation) -> None:
        installation.write(
            lambda db: db.execute(text("UPDATE alembic_version SET version_num='9999'")) and None
        )
        assert "9999" in installation.refused("db", "upgrade")

    def test_a_database_that_is_none(self, installation: Installation) -> None:
        (installation.folder / "data" / "mailstack.db").write_bytes(b"not a database" * 1000)
        assert "file is not a database" in installation.refused("domain", "list")

    def test_a_database_that_is_locked(self, installation: Installation) -> None:
        import sqlite3

        other = sqlite3.connect(installation.folder / "data" / "mailstack.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        said = installation.refused("--set", "database.busy_timeout=0.01", "domain", "add", "b.example")
        assert "locked" in said
        other.execute("ROLLBACK")
        other.close()
        installation.ok("domain", "add", "b.example")


class TestPostgresql:
    def test_the_commands_work_on_it_too(self, installation: Installation) -> None:
        override = ("--set", f'database.url="{database_url("postgresql", installation.folder)}"')
        assert "run mailstack db upgrade" in installation.refused(*override, "domain", "list")
        for command in (
            ("db", "upgrade"),
            ("domain", "add", "example.org"),
            ("user", "add", "alice@example.org", "--generate", "--quota", "5G"),
            ("alias", "add", "@example.org", "alice@example.org"),
            ("mailbox", "add", "alice@example.org", "Archive/2026"),
            ("mailbox", "rename", "alice@example.org", "Archive/2026", "Old"),
            ("queue", "hold", "--all"),
            ("user", "list"),
            ("status",),
        ):
            installation.ok(*override, *command)
        assert "there already" in installation.refused(*override, "domain", "add", "example.org")
        report = installation.json(*override, "status", "--check")
        assert (report["counts"]["users"], report["counts"]["mailboxes"]) == (1, 7)
        installation.ok(*override, "user", "remove", "alice@example.org", "--yes")
        assert installation.json(*override, "user", "list") == []


class TestRootWorksAsTheOwner:
    @pytest.mark.parametrize(
        ("me", "owner", "changed"),
        [(0, 1001, ["groups", "gid 1002", "uid 1001"]), (0, 0, []), (1001, 1005, [])],
    )
    def test_it(self, monkeypatch: pytest.MonkeyPatch, me: int, owner: int, changed: list[str]) -> None:
        done: list[str] = []
        monkeypatch.setattr(os, "geteuid", lambda: me)
        monkeypatch.setattr(os, "setgroups", lambda _groups: done.append("groups"))
        monkeypatch.setattr(os, "setgid", lambda gid: done.append(f"gid {gid}"))
        monkeypatch.setattr(os, "setuid", lambda uid: done.append(f"uid {uid}"))
        now = Operator(Path("x"))
        data = SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=owner, st_gid=owner + 1))
        now.__dict__["config"] = SimpleNamespace(
            data=data, database=SimpleNamespace(url="sqlite://", busy_timeout=1.0)
        )
        assert now.database.is_sqlite
        assert done == changed


class TestWords:
    @pytest.mark.parametrize(
        ("text", "octets"),
        [
            ("5G", 5 << 30),
            ("500m", 500 << 20),
            ("1.5G", 3 << 29),
            ("0", 0),
            ("12", 12),
            ("2TiB", 2 << 40),
            ("none", None),
            (7, 7),
        ],
    )
    def test_sizes_read(self, text: Any, octets: int | None) -> None:
        assert Size().convert(text, None, None) == octets

    @pytest.mark.parametrize(
        "text", ["", "G", "-5", "5X", "5 G G", "1e9", "9" * 30, "\u0665", "999999999999T"]
    )
    def test_sizes_refused(self, text: str) -> None:
        with pytest.raises(click.BadParameter):
            Size().convert(text, None, None)

    def test_sizes_written(self) -> None:
        assert [size(n) for n in (None, 0, 1023, 1 << 30, 3 << 29)] == ["-", "0", "1023", "1G", "1.5G"]

    def test_nothing_reaches_the_terminal_as_a_command(self) -> None:
        assert visible("a\x1b[2Jb\tc\nd\x9be\u202e") == "a\\x1b[2Jb\\tc\\nd\\x9be\\u202e"
        assert visible("Entw\u00fcrfe \u65e5\u672c") == "Entw\u00fcrfe \u65e5\u672c"
        assert plain("x", ["a\t", "b"]) == "a\\t b"

    def test_times(self) -> None:
        assert moment(0) == "1970-01-01T00:00:00Z"
        assert moment(1e30) == "1e+30"


class TestProcess:
    """The real command in a real process."""

    def test_add_list_refuse(self, installation: Installation) -> None:
        def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*PROGRAM, *arguments],
                input=given,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "MAILSTACK_CONFIG": str(installation.file)},
            )

        added = run(
            "user", "add", "alice@example.org", "--password-stdin", "--quota", "5G", given="wonderland\n"
        )
        assert (added.returncode, added.stdout, added.stderr) == (0, "alice@example.org added\n", "")
        again = run("user", "add", "alice@example.org", "--password-stdin", given="wonderland\n")
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == "mailstack: alice@example.org is there already\n"
        assert run("user", "add").returncode == 2
        listed = run("user", "list")
        assert listed.stdout == "alice@example.org\tyes\t5G\t0\t0\t-\t-\tSCRAM-SHA-1 SCRAM-SHA-256\n"

    def test_a_password_typed_on_a_terminal_is_not_shown(self, installation: Installation) -> None:
        ours, theirs = pty.openpty()

        def take_terminal() -> None:
            import fcntl
            import termios

            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            [*PROGRAM, "--config", str(installation.file), "user", "add", "alice@example.org"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        said = b""
        for prompt in (b"Password: ", b"Once more: "):
            while not said.endswith(prompt):
                said += os.read(ours, 1024)
            os.write(ours, b"looking-glass\n")
        try:
            while data := os.read(ours, 1024):
                said += data
        except OSError:
            pass  # the terminal closes with the process
        os.close(ours)
        assert process.wait() == 0
        assert b"alice@example.org added" in said
        assert b"looking-glass" not in said
        stored = installation.read(_hash)
        assert Passwords(DirectoryConfig()).verify("looking-glass", stored).right


def _hash(db: Any) -> str:
    from mailstack.directory.lookups import credentials

    found = credentials(db, "alice@example.org")
    assert found is not None
    assert verbs.get_user(db, "alice@example.org").enabled
    return found.password_hash
