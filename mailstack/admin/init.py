"""`mailstack init`: everything that a first `serve` needs, in one folder."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailstack.admin.certificate import make_certificates, write_private
from mailstack.admin.dkim import default_stem
from mailstack.admin.first_file import first_file
from mailstack.admin.output import OperatorError
from mailstack.config import Config, load
from mailstack.db import Database
from mailstack.directory.names import our_domain
from mailstack.mail.address import BadAddress
from mailstack.store.maildir import fsync_directory

if TYPE_CHECKING:
    from mailstack.signing.verbs import KeyInfo

MOST_ADDED = 65535 - 995  # with more, pop3s would have no port


@dataclass(frozen=True, slots=True)
class Installation:
    """What `initialize` made."""

    file: Path
    domain: str
    hostname: str
    config: Config
    keys: tuple[KeyInfo, ...] = ()  # the first ones, which sign its mail


def initialize(directory: Path, domain: str, hostname: str, add_to_ports: int = 0) -> Installation:
    """Make the folder `directory` with settings, certificates and a database that knows `domain`.

    Takes everything back where a step fails; raises OperatorError.
    """
    directory = directory.absolute()
    domain, hostname = _name(domain, "--domain"), _name(hostname, "--hostname")
    if not 0 <= add_to_ports <= MOST_ADDED:
        raise OperatorError(f"--add-to-ports {add_to_ports}: it must be from 0 to {MOST_ADDED}")
    made = [one for one in (directory, *directory.parents) if not one.exists()]
    _take(directory)
    before = os.umask(0o077)
    try:
        installation = _fill(directory, domain, hostname, add_to_ports)
        _make_durable(directory, made)
        return installation
    except OSError as error:
        _empty(directory)
        raise OperatorError(f"{error.filename or directory}: {error.strerror}") from error
    except BaseException:
        _empty(directory)
        raise
    finally:
        os.umask(before)


def certified_names(domain: str, hostname: str) -> list[str]:
    """What the first certificate covers: our names, and this very machine for a try."""
    names = [hostname, f"mail.{domain}", f"autoconfig.{domain}", "localhost", "127.0.0.1", "::1"]
    return list(dict.fromkeys(names))


def _name(text: str, option: str) -> str:
    try:
        name = our_domain(text)
    except BadAddress as error:
        raise OperatorError(f"{option} {text}: {error}") from error
    if "." not in name:
        raise OperatorError(f"{option} {text}: a full name is needed, such as example.org")
    return name


def _take(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise OperatorError(f"{directory} is not empty: name a new folder, or empty this one first")
        directory.chmod(0o700)
    except OSError as error:
        raise OperatorError(f"{directory}: {error.strerror}; name another folder") from error


def _make_durable(directory: Path, made: Sequence[Path]) -> None:
    """Have what is in the folder outlive a power cut, and the folders that were made for it."""
    for one in dict.fromkeys((directory, *(folder.parent for folder in made))):
        try:
            fsync_directory(one)
        except PermissionError:
            continue  # we may write there, and not read


def _fill(directory: Path, domain: str, hostname: str, add_to_ports: int) -> Installation:
    make_certificates(directory, hostname, certified_names(domain, hostname))
    file = directory / "mailstack.toml"
    write_private(file, first_file(str(file), hostname, add_to_ports).encode())
    config = load(file)
    config.data.mkdir(mode=0o700)
    keys = _make_database(config, domain)
    return Installation(file, domain, hostname, config, keys)


def _make_database(config: Config, domain: str) -> tuple[KeyInfo, ...]:
    from mailstack.db.schema import upgrade  # alembic takes 2 s to import
    from mailstack.directory.verbs import add_domain
    from mailstack.signing import verbs

    upgrade(config.database)
    database = Database(config.database)
    try:
        database.write(add_domain, domain)
        now = time.time()
        keys = verbs.make(["rsa", "ed25519"])
        return tuple(database.write(verbs.add, domain, keys, default_stem(now), now, now))
    finally:
        database.dispose()


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def next_steps(made: Installation) -> str:
    """What to do next, as text for a terminal."""
    from mailstack.admin.records import wanted, zone_lines

    domain, hostname, file = made.domain, made.hostname, made.file
    command = f"mailstack --config {file}"
    records = wanted(domain, hostname, made.config.listeners, made.keys, time.time())
    lines = "\n".join(f"     {line}" for line in zone_lines(records))
    return f"""\
{file.parent} is ready.

1. Add a user:
     {command} user add alice@{domain}
2. Start:
     {command} serve
3. Tell the world, in the DNS zone of {domain} (put in this host's address):
{lines}
   and have the provider of the address set its PTR record to {hostname}. Then:
     {command} domain dns {domain} --check
4. In the mail programs: trust {file.parent / "ca.pem"}, or put a public certificate into {file.name}.
"""


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--domain", required=True, help="The first domain to serve, such as example.org.")
@click.option("--hostname", required=True, help="This host's name, such as mail.example.org.")
@click.option(
    "--add-to-ports",
    type=int,
    default=0,
    metavar="N",
    help="Move every port up by N, and bind loopback only.",
)
def command(directory: Path, domain: str, hostname: str, add_to_ports: int) -> None:
    """Set up a new installation in the folder DIR."""
    click.echo(next_steps(initialize(directory, domain, hostname, add_to_ports)), nl=False)
