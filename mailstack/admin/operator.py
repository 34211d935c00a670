"""What every operator's command starts from: the settings, the database, and words for what goes wrong."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailstack.admin import output
from mailstack.admin.output import Misuse, OperatorError

if TYPE_CHECKING:
    from mailstack.config import Config
    from mailstack.db import Database
    from mailstack.mta.verbs import Order

T = TypeVar("T")


class Operator:
    """One run of the command line: which file it reads, with what laid over it."""

    def __init__(self, file: Path | None, overrides: Sequence[str] = ()) -> None:
        self.file = file
        self.overrides = tuple(overrides)
        self.name = _name()  # before we work as the owner of the data

    @property
    def path(self) -> Path:
        """The configuration file; raise Misuse where none is named."""
        if self.file is None:
            raise Misuse("name the configuration file: mailstack --config FILE ..., or MAILSTACK_CONFIG=FILE")
        return self.file

    @cached_property
    def config(self) -> Config:
        """The settings; raise Misuse with a line for each mistake in them."""
        from mailstack.config import ConfigError, load

        try:
            return load(self.path, self.overrides)
        except ConfigError as error:
            raise Misuse("\n".join(error.messages)) from error

    @cached_property
    def database(self) -> Database:
        """The database, whatever the version of its tables."""
        from mailstack.db import Database

        self._become_owner()
        return Database(self.config.database)

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a read transaction of a current database; raise OperatorError."""
        database = self.current_database()
        return self._run(lambda: database.read(function, *args))

    def write(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(db, *args)` in a write transaction of a current database; raise OperatorError."""
        database = self.current_database()
        return self._run(lambda: database.write(function, *args))

    def current_database(self) -> Database:
        """The database; raise OperatorError where its tables are not those of this program."""
        from mailstack.db import schema

        self.must_exist()
        found = self._run(schema.version, self.database)
        if found == schema.HEAD:
            return self.database
        if found is not None and found > schema.HEAD:
            raise OperatorError(f"the database is of a newer mailstack ({found}; this one: {schema.HEAD})")
        raise OperatorError("the database is not up to date: run mailstack db upgrade")

    def order(self) -> Order | None:
        """What the trail is to say of who wants something done; None: there is no trail."""
        from mailstack.mta.verbs import Order

        return Order(self.name, time.time()) if self.config.trail.keep else None

    def attempt(self, function: Callable[..., T], *args: Any) -> T:
        """`function(*args)`, its errors of database and system in words: raise OperatorError."""
        return self._run(function, *args)

    def _run(self, function: Callable[..., T], *args: Any) -> T:
        from sqlalchemy.exc import SQLAlchemyError

        from mailstack.directory.verbs import Refusal

        try:
            return function(*args)
        except Refusal as error:
            raise OperatorError(str(error)) from error
        except SQLAlchemyError as error:
            first = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise OperatorError(f"database: {first}") from error
        except OSError as error:
            raise OperatorError(f"{error.filename or 'system'}: {error.strerror or error}") from error

    def must_exist(self) -> None:
        """SQLite would make an empty database in place of a missing one."""
        url = self.database.url
        if self.database.is_sqlite and url.database and not Path(url.database).exists():
            raise OperatorError(f"{url.database}: there is no database yet: run mailstack db upgrade")

    def _become_owner(self) -> None:
        """Root works as the owner of the data: files of root's would be closed to the server."""
        if os.geteuid() != 0:
            return
        try:
            owner = self.config.data.stat()
        except OSError:
            return
        if owner.st_uid != 0:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)


def _name() -> str:
    """Who runs the command, also by sudo."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    sudo = os.environ.get("SUDO_USER", "")
    return f"{sudo} (as {user})" if sudo and sudo != user else user


def operator() -> Operator:
    """That of the command that runs now."""
    found = click.get_current_context().find_object(Operator)
    assert found is not None
    return found


def confirm(question: str, yes: bool) -> None:
    """Go on only if the operator means it: asked on a terminal, said by --yes elsewhere."""
    if yes:
        return
    if not output.at_keyboard():
        raise OperatorError(f"{question} Say --yes to do it without a terminal")
    if not click.confirm(question, default=False):
        raise OperatorError("nothing was changed")


json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask whether to remove.")
