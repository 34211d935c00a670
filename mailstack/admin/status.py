"""`mailstack status`: whether everything is there and answers."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailstack import __version__
from mailstack.admin.operator import Operator, json_option, operator
from mailstack.admin.output import OperatorError, show_json, show_row, size

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mailstack.net.settings import ListenerConfig

_PATIENCE = 5.0  # seconds for a connection and its greeting
_GREETING = 512  # octets at most


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """What answered at one service's port."""

    service: str
    address: str
    port: int
    tls: bool
    answers: bool
    greeting: str  # its first line, or what went wrong


@click.command("status")
@click.option("--check", is_flag=True, help="Unless all is well, say on standard error what is not.")
@json_option
def command(check: bool, as_json: bool) -> None:
    """Tell how the installation is: database, numbers, listeners, disk.

    Connects to every configured port of this host and reads the greeting.

    \b
    Exit status:
      0  all is well
      1  this cannot be told
      2  a mistake in the command or the configuration file
      3  the server is not running: no port answers
      4  it runs, but a port does not answer
      5  the database cannot be reached, or its tables are not those of this version

    Example: mailstack status --json
    """
    report = survey(operator())
    if as_json:
        show_json(report)
    else:
        show_row(_flat(report), False)
    status, words = verdict(report)
    if status and check:
        click.echo(f"mailstack: {words}", err=True)
    click.get_current_context().exit(status)


def verdict(report: dict[str, Any]) -> tuple[int, str]:
    """The exit status that goes with a report, and what it means."""
    database, listeners = report["database"], report["listeners"]
    if not database["reachable"] or not database["current"]:
        return 5, str(database["error"] or "the database is of another version: run mailstack db upgrade")
    silent = [one["service"] for one in listeners if not one["answers"]]
    if silent and len(silent) == len(listeners):
        return 3, "the server is not running"
    return (4, f"no answer from {', '.join(silent)}") if silent else (0, "all is well")


def survey(now: Operator) -> dict[str, Any]:
    """Everything that `status` tells; `ok` is whether the stack runs as the configuration wants it."""
    config = now.config
    database = _database(now)
    listeners = probe(config.listeners.services())
    return {
        "version": __version__,
        "ok": database["reachable"] and database["current"] and all(one.answers for one in listeners),
        "config": str(now.path),
        "hostname": config.hostname,
        "database": database,
        "counts": _counts(now) if database["current"] else None,
        "listeners": [asdict(one) for one in listeners],
        "data": _disk(config.data),
    }


def probe(services: Sequence[ListenerConfig]) -> list[ListenerStatus]:
    """Connect to each service at once and read its greeting."""
    if not services:
        return []
    with ThreadPoolExecutor(len(services)) as pool:
        return list(pool.map(_probe, services))


def _probe(service: ListenerConfig) -> ListenerStatus:
    address = _reachable_at(service.addresses)
    answers, words = False, "any port: see the log for which"
    if service.port:
        try:
            words = _greeting(address, service.port, service.tls)
            answers = words.startswith(("220", "* OK", "* PREAUTH", "+OK"))
        except OSError as error:  # TimeoutError and ssl.SSLError are two
            words = str(error.strerror or error)
    return ListenerStatus(service.service, address, service.port, service.tls, answers, words)


def _reachable_at(addresses: tuple[str, ...]) -> str:
    """An address of this host at which a listener bound to `addresses` is heard."""
    first = addresses[0] if addresses else ""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(first, first)


def _greeting(address: str, port: int, tls: bool) -> str:
    with socket.create_connection((address, port), _PATIENCE) as plain:
        if not tls:
            return _first_line(plain)
        # Whether it answers is the question here; whether the world trusts its name, the mail programs tell.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain) as secure:
            return _first_line(secure)


def _first_line(connection: socket.socket) -> str:
    data = b""
    while b"\n" not in data and len(data) < _GREETING:
        more = connection.recv(_GREETING - len(data))
        if not more:
            break
        data += more
    return data.partition(b"\n")[0].decode("utf-8", "replace").strip() or "closed without a greeting"


def _database(now: Operator) -> dict[str, Any]:
    from mailstack.db import schema

    url = now.database.url.render_as_string(hide_password=True)
    found: dict[str, Any] = {"url": url, "reachable": False, "current": False, "version": None, "error": None}
    try:
        now.must_exist()
        version = now.attempt(schema.version, now.database)
    except OperatorError as error:
        return {**found, "error": error.message}
    return {**found, "reachable": True, "current": version == schema.HEAD, "version": version}


def _counts(now: Operator) -> dict[str, int]:
    def count(db: Connection) -> dict[str, int]:
        from sqlalchemy import func, select

        from mailstack.directory import verbs
        from mailstack.mta.verbs import stats
        from mailstack.store.tables import mailboxes, usage

        octets, messages = db.execute(select(func.sum(usage.c.octets), func.sum(usage.c.messages))).one()
        queue = stats(db)
        return {
            **verbs.count(db),
            "mailboxes": db.scalar(select(func.count()).select_from(mailboxes)) or 0,
            "messages": int(messages or 0),
            "octets": int(octets or 0),
            "queue": queue.entries,
            "held": queue.held,
        }

    return now.read(count)


def _disk(path: Path) -> dict[str, Any]:
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return {"path": str(path), "free": None, "total": None, "error": error.strerror}
    return {"path": str(path), "free": usage.free, "total": usage.total, "error": None}


def _flat(report: dict[str, Any]) -> dict[str, Any]:
    """The report as lines for a reader."""
    database, counts, data = report["database"], report["counts"], report["data"]
    words = database["error"] or (
        f"version {database['version']}" if database["current"] else "run mailstack db upgrade"
    )
    lines = {
        "mailstack": report["version"],
        "all well": report["ok"],
        "config": report["config"],
        "hostname": report["hostname"],
        "database": f"{database['url']} ({words})",
    }
    for name, number in (counts or {}).items():
        lines["mail" if name == "octets" else name] = size(number) if name == "octets" else number
    for one in report["listeners"]:
        state = "answers" if one["answers"] else "does not answer"
        lines[one["service"]] = f"{one['address']}:{one['port']} {state}: {one['greeting']}"
    lines["disk"] = data["error"] or f"{size(data['free'])} free of {size(data['total'])} at {data['path']}"
    return lines
