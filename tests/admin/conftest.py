"""An installation without listeners: settings, and a database with the domain example.org."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mailstack.admin.cli import cli
from mailstack.db import Database, DatabaseConfig, schema
from mailstack.directory.verbs import add_domain

SETTINGS = """\
hostname = "mail.example.org"
data = "data"
[directory]
argon2_memory_kib = 8
argon2_time_cost = 1
[listeners]
smtp = false
submission = false
submissions = false
imap = false
imaps = false
pop3 = false
pop3s = false
"""


class Installation:
    """A folder with settings and data, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "mailstack.toml"
        self.database = f"sqlite:///{folder / 'data' / 'mailstack.db'}"

    def run(self, *arguments: str, input: str | bytes | None = None) -> Result:
        runner = CliRunner(env={"MAILSTACK_CONFIG": None, "COLUMNS": "200"})
        return runner.invoke(
            cli, ["--config", str(self.file), *arguments], input=input, prog_name="mailstack"
        )

    def ok(self, *arguments: str, input: str | bytes | None = None) -> str:
        result = self.run(*arguments, input=input)
        assert (result.exit_code, result.stderr) == (0, ""), result.output
        return result.stdout

    def json(self, *arguments: str, input: str | bytes | None = None) -> Any:
        return json.loads(self.ok(*arguments, "--json", input=input))

    def refused(self, *arguments: str, status: int = 1, input: str | bytes | None = None) -> str:
        """The one line that says why."""
        result = self.run(*arguments, input=input)
        assert (result.exit_code, result.stdout) == (status, ""), result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("mailstack: ")
        return lines[0].removeprefix("mailstack: ")

    def read(self, function: Callable[..., Any], *args: Any) -> Any:
        database = Database(DatabaseConfig(self.database))
        try:
            return database.read(function, *args)
        finally:
            database.dispose()

    def write(self, function: Callable[..., Any], *args: Any) -> Any:
        database = Database(DatabaseConfig(self.database))
        try:
            return database.write(function, *args)
        finally:
            database.dispose()


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installation")
    (folder / "mailstack.toml").write_text(SETTINGS)
    (folder / "data").mkdir()
    database = Database(DatabaseConfig(Installation(folder).database))
    schema.upgrade(database)
    database.write(add_domain, "example.org")
    database.dispose()
    return folder


@pytest.fixture
def installation(_made_once: Path, tmp_path: Path) -> Installation:
    folder = tmp_path / "one"
    shutil.copytree(_made_once, folder)
    return Installation(folder)


@pytest.fixture
def alice(installation: Installation) -> Installation:
    """The same with the user alice@example.org, password "wonderland"."""
    installation.ok("user", "add", "alice@example.org", "--password-stdin", input="wonderland\n")
    return installation
