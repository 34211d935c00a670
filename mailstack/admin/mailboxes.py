"""`mailstack mailbox`: the mailboxes of a user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeVar

import click

from mailstack.admin.operator import Operator, confirm, json_option, operator, yes_option
from mailstack.admin.output import OperatorError, done, show_rows
from mailstack.directory import verbs
from mailstack.store import mailboxes
from mailstack.store.names import INBOX, canonical
from mailstack.store.values import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")
_COLUMNS = ("name", "messages", "unseen", "octets", "special_use", "subscribed")


@click.group("mailbox")
def command() -> None:
    """The mailboxes of a user, by names as a mail program shows them: Archive/2026."""


@command.command("list")
@click.argument("user")
@json_option
def list_(user: str, as_json: bool) -> None:
    """List the mailboxes of USER.

    Columns in a pipe: name, messages, unseen, octets, special use, subscribed.

    Example: mailstack mailbox list alice@example.org
    """
    rows = [asdict(info) for info in _change(operator(), user, mailboxes.list_mailboxes, write=False)]
    show_rows(_COLUMNS, rows, as_json)


@command.command("add")
@click.argument("user")
@click.argument("name")
@json_option
def add(user: str, name: str, as_json: bool) -> None:
    """Make the mailbox NAME of USER, subscribed.

    Example: mailstack mailbox add alice@example.org Archive/2026
    """
    now = operator()
    store = now.config.store

    def run(db: Connection, user_id: int) -> str:
        made = mailboxes.create(db, store.path, user_id, canonical(name), (), store.max_mailboxes)
        mailboxes.subscribe(db, store.path, user_id, made.name, store.max_mailboxes)
        return made.name

    made = _change(now, user, run)
    done(f"{user}: {made} added", {"user": user, "name": made}, as_json)


@command.command("remove")
@click.argument("user")
@click.argument("name")
@yes_option
@json_option
def remove(user: str, name: str, yes: bool, as_json: bool) -> None:
    """Remove the mailbox NAME of USER and the messages in it, for good.

    Example: mailstack mailbox remove alice@example.org Archive/2026 --yes
    """
    confirm(f"Remove the mailbox {name} of {user} and all messages in it, for good?", yes)
    now = operator()
    root = now.config.store.path

    def run(db: Connection, user_id: int) -> None:
        mailboxes.remove(db, user_id, canonical(name))
        mailboxes.unsubscribe(db, root, user_id, canonical(name))

    _change(now, user, run)
    done(f"{user}: {name} removed", {"user": user, "name": name}, as_json)


@command.command("rename")
@click.argument("user")
@click.argument("old")
@click.argument("new")
@json_option
def rename(user: str, old: str, new: str, as_json: bool) -> None:
    """Rename the mailbox OLD of USER, and those below it, to NEW.

    Example: mailstack mailbox rename alice@example.org Archive/2026 Old/2026
    """
    now = operator()
    store = now.config.store
    old_name, new_name = canonical(old), canonical(new)
    if old_name == INBOX:
        raise OperatorError(
            "INBOX cannot be renamed here; a mail program can, and leaves an empty one behind"
        )

    def run(db: Connection, user_id: int) -> None:
        mailboxes.rename(db, store.path, user_id, old_name, new_name, store.max_mailboxes)
        # IMAP leaves subscriptions to the client (RFC 3501 section 6.3.5); here nobody else follows up.
        for name in mailboxes.list_subscriptions(db, user_id):
            if name == old_name or name.startswith(f"{old_name}/"):
                followed = new_name + name.removeprefix(old_name)
                mailboxes.unsubscribe(db, store.path, user_id, name)
                mailboxes.subscribe(db, store.path, user_id, followed, store.max_mailboxes)

    _change(now, user, run)
    done(f"{user}: {old} is now {new}", {"user": user, "old": old, "new": new}, as_json)


def _change(now: Operator, user: str, function: Callable[[Connection, int], T], write: bool = True) -> T:
    def run(db: Connection) -> T:
        return function(db, verbs.get_user(db, user).id)

    try:
        return now.write(run) if write else now.read(run)
    except StoreError as error:
        raise OperatorError(f"{_WORDS.get(type(error).__name__, 'refused')}: {error}") from error


_WORDS = {
    "NoSuchMailbox": "no such mailbox",
    "MailboxExists": "there is such a mailbox already",
    "BadMailboxName": "not possible",
    "TooMany": "too many",
}
