"""`mailstack store`: whether the mail and its index agree, and what to do if not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mailstack.admin import output
from mailstack.admin.operator import Operator, confirm, json_option, operator, yes_option
from mailstack.admin.output import Misuse, OperatorError, done, show_rows, size
from mailstack.directory import verbs
from mailstack.store import check, indexer, mailboxes, undelete
from mailstack.store.index import TextIndex
from mailstack.store.names import canonical
from mailstack.store.rebuild import rebuild_user
from mailstack.store.rows import MAILDIR
from mailstack.store.values import StoreError, Usage

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

_user = click.argument("user", required=False)
_all = click.option("--all", "everybody", is_flag=True, help="Every user.")


@click.group("store")
def command() -> None:
    """The mail on the disk and its index: check, rebuild, usage, index, undelete."""


@command.command("check")
@_user
@_all
@json_option
def check_(user: str | None, everybody: bool, as_json: bool) -> None:
    """Compare files, rows, counters and UIDs of USER; nothing is changed. Exit status 1 where they disagree.

    Columns in a pipe: user, mailbox, kind, detail.

    Example: mailstack store check --all
    """
    now = operator()
    rows: list[dict[str, Any]] = []
    for address, user_id in _users(now, user, everybody):
        total = now.read(check.count_messages, user_id)
        with _progress(address, total) as looked:
            found = now.read(check.check_user, now.config.store.path, user_id, looked)
        if found:  # a server may be at work: what counts is still there
            again = now.read(check.check_user, now.config.store.path, user_id, lambda more: None)
            found = check.lasting(found, again)
        rows += [{"user": address, **asdict(problem)} for problem in found]
    if rows or as_json:
        show_rows(("user", "mailbox", "kind", "detail"), rows, as_json)
    if rows:
        raise OperatorError(f"{len(rows)} problems; mailstack store rebuild mends an index")
    if not as_json:
        done("no problems", {}, False)


@command.command("rebuild")
@_user
@_all
@yes_option
@json_option
def rebuild(user: str | None, everybody: bool, yes: bool, as_json: bool) -> None:
    """Make the index of USER anew from the files. UIDs, flags, keywords and subscriptions stay.

    Clients are told that they know nothing of what was expunged; open sessions of USER end.

    Example: mailstack store rebuild alice@example.org --yes
    """
    now = operator()
    users = _users(now, user, everybody)
    confirm(f"Rebuild the index of {user or 'every user'} from the files?", yes)
    root = now.config.store.path
    rows = []
    for address, user_id in users:
        total = now.read(check.count_messages, user_id)
        with _progress(address, total) as looked:
            made = now.write(_rebuild, root, user_id, looked)
        if made is not None:
            home, held = made
            boxes = _mailbox_ids(now, user_id)
            now.attempt(indexer.index_of(now.database).discard, root / home / MAILDIR, boxes)
            rows.append({"user": address, "messages": held.messages, "octets": held.octets})
    show_rows(("user", "messages", "octets"), rows, as_json)


@command.command("usage")
@_user
@_all
@json_option
def usage(user: str | None, everybody: bool, as_json: bool) -> None:
    """Tell what USER holds; octets of the full-text index and expunged mail that can be put back too.

    Columns in a pipe: user, mailboxes, messages, octets, index octets, expunged.

    Example: mailstack store usage --all
    """
    now = operator()
    root = now.config.store.path
    rows = []
    for address, user_id in _users(now, user, everybody):

        def run(db: Connection, user_id: int = user_id) -> dict[str, Any]:
            held = mailboxes.usage_of(db, user_id)
            names = [info.name for info in mailboxes.list_mailboxes(db, user_id) if info.selectable]
            return {
                "mailboxes": len(names),
                "messages": held.messages,
                "octets": held.octets,
                "expunged": sum(undelete.count_kept(db, user_id, name, 0) for name in names),
            }

        home = now.read(mailboxes.home_of, user_id)
        boxes = _mailbox_ids(now, user_id)
        texts = indexer.index_of(now.database)
        octets = now.attempt(texts.octets, root / home / MAILDIR, boxes) if home else 0
        rows.append({"user": address, **now.read(run), "index_octets": octets})
    if not as_json and output.on_terminal():
        rows = [
            {**row, "octets": size(row["octets"]), "index_octets": size(row["index_octets"])} for row in rows
        ]
    show_rows(("user", "mailboxes", "messages", "octets", "index_octets", "expunged"), rows, as_json)


@command.command("index")
@_user
@_all
@click.option("--rebuild", "anew", is_flag=True, help="Throw the index away first.")
@json_option
def index_(user: str | None, everybody: bool, anew: bool, as_json: bool) -> None:
    """Take the mail of USER into the full-text index, now. A server does it by itself, little by little.

    Example: mailstack store index alice@example.org --rebuild
    """
    now = operator()
    if not now.config.store.index:
        raise OperatorError("[store] index is false: nothing would use it")
    rows = []
    texts = indexer.index_of(now.current_database())
    if not now.attempt(texts.prepare):
        raise OperatorError("this PostgreSQL cannot have the index; the log line above says why")
    for address, user_id in _users(now, user, everybody):
        boxes = _mailbox_ids(now, user_id)
        if anew:
            home = now.read(mailboxes.home_of, user_id)
            if home:
                now.attempt(texts.discard, now.config.store.path / home / MAILDIR, boxes)
        with _progress(address, now.read(check.count_messages, user_id)) as looked:
            count = sum(_take_in(now, texts, mailbox_id, looked) for mailbox_id in boxes)
        rows.append({"user": address, "taken": count})
    show_rows(("user", "taken"), rows, as_json)


@command.command("undelete")
@click.argument("user")
@click.argument("mailbox")
@click.option(
    "--since", metavar="DATE", help="Only what was expunged since, UTC: 2026-11-20 or 2026-11-20T14:30."
)
@json_option
def undelete_(user: str, mailbox: str, since: str | None, as_json: bool) -> None:
    r"""Put back what was expunged from MAILBOX of USER, under new UIDs, without its \Deleted.

    Only what `[store] keep_expunged` has kept. A mailbox that was deleted itself is not there to put into.

    Example: mailstack store undelete alice@example.org INBOX --since 2026-11-20
    """
    now = operator()
    start = _moment(since)
    [(address, user_id)] = _users(now, user, False)
    name = canonical(mailbox)
    try:
        total = now.read(undelete.count_kept, user_id, name, start)
        back = 0
        with _progress(address, total) as looked:
            while True:
                pairs, seen, _ = now.write(
                    undelete.put_back, now.config.store.path, user_id, name, start, int(time.time())
                )
                back += len(pairs)
                looked(seen)
                if seen < undelete.SLICE:
                    break
    except StoreError as error:
        raise OperatorError(f"no such mailbox: {error}") from error
    done(
        f"{address}: {back} messages put back into {name}",
        {"user": address, "name": name, "back": back},
        as_json,
    )


def _rebuild(
    db: Connection, root: Path, user_id: int, looked: Callable[[int], None]
) -> tuple[str, Usage] | None:
    home = mailboxes.home_of(db, user_id)
    return None if home is None else (home, rebuild_user(root, db, user_id, home, looked))


def _mailbox_ids(now: Operator, user_id: int) -> list[int]:
    return [info.id for info in now.read(mailboxes.list_mailboxes, user_id) if info.selectable]


def _take_in(now: Operator, texts: TextIndex, mailbox_id: int, looked: Callable[[int], None]) -> int:
    root, count = now.config.store.path, 0
    scope = now.read(indexer.find_scope, root, mailbox_id)
    mark = now.attempt(texts.mark_of, scope)
    while sources := now.read(indexer.following, root, mailbox_id, mark):
        mark = now.attempt(texts.take_in, scope, mark, sources, 60.0)
        count += len(sources)
        looked(len(sources))
    now.attempt(texts.settle, scope)
    return count


def _users(now: Operator, user: str | None, everybody: bool) -> list[tuple[str, int]]:
    if everybody == (user is not None):
        raise Misuse("name a user, or say --all")
    if user is not None:
        found = now.read(verbs.get_user, user)
        return [(found.address, found.id)]
    return [(info.address, info.id) for info in now.read(verbs.list_users)]


def _moment(text: str | None) -> int:
    if text is None:
        return 0
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise Misuse(f"--since {text}: not a date; write for example 2026-11-20") from None


@contextmanager
def _progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while somebody watches; what it gives is told how much more is done."""
    if not output.on_terminal() or total < 500:
        yield lambda more: None
        return
    bar: Any = click.progressbar(length=total, label=output.visible(label), file=sys.stderr)
    with bar as shown:
        yield shown.update
