"""`mailstack queue`: mail that waits to go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailstack.admin.operator import Operator, confirm, json_option, operator, yes_option
from mailstack.admin.output import Misuse, OperatorError, done, show_json, show_row, show_rows, size
from mailstack.mta import entries, verbs
from mailstack.mta.tables import HELD, WAITING

if TYPE_CHECKING:
    from sqlalchemy import Connection

_COLUMNS = (
    "id",
    "message_id",
    "state",
    "sender",
    "recipient",
    "size",
    "attempts",
    "next_attempt",
    "last_reply",
)
_AT_ONCE = 1000  # entries in one transaction

_Verb = Callable[..., verbs.Changed]

_filters = [
    click.option("--sender", help='Only from this address; "" is the null path of bounces.'),
    click.option("--login", help="Only what this user submitted, as whomever."),
    click.option("--recipient", help="Only to this address."),
    click.option("--domain", help="Only to recipients in this domain."),
    click.option("--reason", help="Only those whose last reply has this text in it."),
]


_FILTERS = ("sender", "login", "recipient", "domain", "reason")


def _filtered(function: Any) -> Any:
    for option in reversed(_filters):
        function = option(function)
    return function


def _choosing(function: Any) -> Any:
    """The arguments of a command that changes entries."""
    function = click.option("--all", "everything", is_flag=True, help="Every entry there is.")(function)
    return click.argument("ids", nargs=-1, metavar="[ID]...")(_filtered(function))


@click.group("queue")
def command() -> None:
    """Mail in wait. An entry is one recipient of one message.

    An ID is that of an entry (a number), or of a message: then all its entries are meant.
    """


@command.command("list")
@_filtered
@click.option("--state", type=click.Choice(["waiting", "held"]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="The most entries.")
@json_option
def list_(state: str | None, limit: int, as_json: bool, **filters: Any) -> None:
    """List the entries, oldest first.

    Columns in a pipe: id, message, state, sender, recipient, size, attempts, next attempt, last reply.

    Example: mailstack queue list --domain example.net
    """
    choice = verbs.Choice(state=state, **filters)
    rows = (entry._asdict() for entry in _listed(operator(), choice, limit))
    show_rows(_COLUMNS, rows if as_json else map(_readable, rows), as_json)


def _listed(now: Operator, choice: verbs.Choice, limit: int) -> Iterator[verbs.QueueEntry]:
    """The entries, some at a time: a long list costs no more memory than a short one."""
    after = 0
    while limit > 0:
        found = now.read(verbs.list_entries, choice, min(limit, _AT_ONCE), after)
        yield from found
        limit -= len(found)
        if len(found) < _AT_ONCE:
            return
        after = found[-1].id


@command.command("show")
@click.argument("id_", metavar="ID")
@click.option("--message", is_flag=True, help="Print the message itself, as it will be sent.")
@json_option
def show(id_: str, message: bool, as_json: bool) -> None:
    """Show all entries of the message ID, or of the entry ID.

    Example: mailstack queue show 17
    """
    now = operator()
    found = now.read(_entries, id_)
    if message:
        _print_message(now, found[0].message_id, found[0].size)
    elif as_json:
        show_json([entry._asdict() for entry in found])
    else:
        for number, entry in enumerate(found):
            if number:
                click.echo()
            show_row(_readable(entry._asdict()), False)


@command.command("stats")
@json_option
def stats(as_json: bool) -> None:
    """Tell the queue in numbers, and the ten hops with most entries.

    Example: mailstack queue stats --json
    """
    found = operator().read(verbs.stats)
    row = asdict(found)
    if as_json:
        show_json(row)
        return
    row |= {"octets": size(found.octets), "hops": [f"{hop}={number}" for hop, number in found.hops]}
    show_row(row, False)


@command.command("retry")
@_choosing
@json_option
def retry(as_json: bool, **chosen: Any) -> None:
    """Attempt waiting entries now.

    \b
    Examples: mailstack queue retry 17 18
              mailstack queue retry --domain example.net
    """
    _change("retried", chosen, WAITING, partial(verbs.retry, now=time.time()), as_json)


@command.command("hold")
@_choosing
@json_option
def hold(as_json: bool, **chosen: Any) -> None:
    """Attempt entries no more, until they are released.

    Example: mailstack queue hold --sender newsletter@example.org
    """
    _change("held", chosen, WAITING, verbs.hold, as_json)


@command.command("release")
@_choosing
@json_option
def release(as_json: bool, **chosen: Any) -> None:
    """Attempt held entries again, now.

    Example: mailstack queue release --all
    """
    _change("released", chosen, HELD, partial(verbs.release, now=time.time()), as_json)


@command.command("drop")
@_choosing
@yes_option
@json_option
def drop(as_json: bool, yes: bool, **chosen: Any) -> None:
    """Remove entries for good; their senders hear nothing of it.

    Example: mailstack queue drop --recipient nobody@example.net --yes
    """
    _checked(chosen)
    confirm("Drop these entries for good, without a word to their senders?", yes)
    _change("dropped", chosen, None, verbs.drop, as_json)


def _checked(chosen: dict[str, Any]) -> None:
    """Raise Misuse unless it is said which entries are meant, in one way."""
    filters = any(chosen[name] is not None for name in _FILTERS)
    if bool(chosen["ids"]) + filters + chosen["everything"] != 1:
        raise Misuse(
            "say which entries: by ID, by --sender, --login, --recipient, --domain, --reason, or --all"
        )
    if "all" in chosen["ids"]:
        raise Misuse("all is not an ID: say --all")


def _change(words: str, chosen: dict[str, Any], state: str | None, verb: _Verb, as_json: bool) -> None:
    """Do it to all that are chosen and in that state, a part in each transaction."""
    _checked(chosen)
    now = operator()
    order = now.order()
    changed = 0
    for choice in _choices(chosen, state):
        with _progress(now, choice) as advance:
            for number in _in_parts(now, partial(verb, choice=choice, order=order)):
                changed += number
                advance(number)
    if not changed and not chosen["everything"]:
        raise OperatorError("there is no such entry, or none in a state for that")
    done(f"{changed} {words}", {words: changed}, as_json)


def _in_parts(now: Operator, verb: Callable[..., verbs.Changed]) -> Iterator[int]:
    """How many each transaction changed. Between two we wait for as long as one takes.

    SQLite lets nobody queue for the next turn to write: without a pause we would have it ourselves each time.
    """
    spool, after = _spool(now), 0
    while True:
        began = time.monotonic()
        found = now.write(lambda db, part: verb(db, part=part), verbs.Part(after, _AT_ONCE))
        for name in found.spool:  # now that it is committed
            now.attempt((spool / name).unlink, True)
        yield found.entries
        if found.entries < _AT_ONCE:
            return
        after = found.last
        time.sleep(time.monotonic() - began)


def _choices(chosen: dict[str, Any], state: str | None) -> Iterator[verbs.Choice]:
    """What the command line asks for; many IDs in several."""
    ids = tuple(dict.fromkeys(chosen["ids"]))
    filters = {name: chosen[name] for name in _FILTERS}
    for at in range(0, max(1, len(ids)), _AT_ONCE):
        yield verbs.Choice(ids[at : at + _AT_ONCE], state=state, **filters)


@contextmanager
def _progress(now: Operator, choice: verbs.Choice) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, where there are many."""
    total = now.read(verbs.count, choice) if sys.stderr.isatty() else 0
    if total <= _AT_ONCE:
        yield lambda number: None
        return
    with click.progressbar(length=total, label="entries", file=sys.stderr) as bar:
        yield bar.update


def _entries(db: Connection, id_: str) -> list[verbs.QueueEntry]:
    found = verbs.show(db, id_)
    if not found and id_.isascii() and id_.isdecimal():
        message = verbs.message_of(db, int(id_)) if len(id_) < 19 else None
        found = verbs.show(db, message) if message else []
    if not found:
        raise OperatorError(f"{id_}: there is no such message or entry")
    return found


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "size": size(row["size"]), "sender": row["sender"] or "<>"}


def _spool(now: Operator) -> Path:
    """Where `mailstack.stack` has the queue keep its files."""
    return now.config.data / "spool" / "queue"


def _print_message(now: Operator, message_id: str, octets: int) -> None:
    from mailstack.mail.message import Message, Stored

    name = now.read(entries.spool_file, message_id)
    content = b"" if name else now.read(entries.content, message_id)
    if name is None or content is None:
        raise OperatorError(f"{message_id}: it is gone meanwhile")
    message = Message((Stored(_spool(now) / name, 0, octets),)) if name else Message.of(content)

    def copy() -> None:
        for chunk in message.chunks():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()

    now.attempt(copy)
