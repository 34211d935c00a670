"""`mailstack user`: those who log in."""

from __future__ import annotations

import secrets
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from mailstack.admin import output, senders
from mailstack.admin.operator import Operator, confirm, json_option, operator, yes_option
from mailstack.admin.output import Misuse, OperatorError, Size, done, show_json, show_rows, size
from mailstack.directory import verbs

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from mailstack.directory.keys import StoredKeys
    from mailstack.directory.verbs import UserInfo

_LENGTH = 24  # letters of a generated password: 138 bits
_ALPHABET = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without 0 O 1 l I
_COLUMNS = ("address", "enabled", "quota", "used", "messages", "quota_messages", "last_login", "keys")

_password_options = [
    click.option(
        "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
    ),
    click.option(
        "--password-hash", metavar="HASH", help="A hash from another server, such as '{SSHA512}...'."
    ),
    click.option("--generate", is_flag=True, help="Make a password and print it, once."),
]


def _with_password(function: Any) -> Any:
    for option in reversed(_password_options):
        function = option(function)
    return function


@click.group("user")
def command() -> None:
    """Those who log in and have mailboxes."""


@command.command("list")
@click.option("--domain", help="Only those of one domain.")
@json_option
def list_(domain: str | None, as_json: bool) -> None:
    """List the users.

    Columns in a pipe: address, enabled, quota, used, messages, quota of messages, last login,
    keys: the mechanisms without the password itself (SCRAM, CRAM-MD5) that the user can sign in by.

    Example: mailstack user list --domain example.org --json
    """
    rows = operator().read(_list, domain)
    show_rows(_COLUMNS, rows if as_json else [_readable(row) for row in rows], as_json)


@command.command("add")
@click.argument("address")
@_with_password
@click.option("--quota", type=Size(), metavar="SIZE", help="The most that all mail may take: 5G, 500M.")
@click.option("--quota-messages", type=click.IntRange(0), metavar="N", help="The most messages.")
@json_option
def add(
    address: str,
    password_stdin: bool,
    password_hash: str | None,
    generate: bool,
    quota: int | None,
    quota_messages: int | None,
    as_json: bool,
) -> None:
    """Add the user ADDRESS with Inbox, Drafts, Sent, Junk, Trash and Archive.

    Without an option for the password, asks for it on the terminal.

    \b
    Examples: mailstack user add alice@example.org --quota 5G
              echo "$PASSWORD" | mailstack user add alice@example.org --password-stdin
    """
    now = operator()
    hashed, keys, generated = _password(now, password_stdin, password_hash, generate)
    root = now.config.store.path

    def run(db: Connection) -> int:
        from mailstack.store.mailboxes import provision

        user_id = verbs.add_user(db, address, hashed, quota, quota_messages, keys)
        provision(db, root, user_id)
        return user_id

    user_id = now.write(run)
    row: dict[str, Any] = {"id": user_id, "address": now.read(verbs.get_user, address).address}
    _done(f"{row['address']} added", row, generated, as_json)


@command.command("password")
@click.argument("address")
@_with_password
@json_option
def password(
    address: str, password_stdin: bool, password_hash: str | None, generate: bool, as_json: bool
) -> None:
    """Change the password of ADDRESS; the old one ends at once.

    Example: mailstack user password alice@example.org --generate
    """
    now = operator()
    row = {"address": now.read(verbs.get_user, address).address}  # before anybody types a password in vain
    hashed, keys, generated = _password(now, password_stdin, password_hash, generate)
    now.write(verbs.set_password, address, hashed, keys)
    _done(f"{row['address']}: password changed", row, generated, as_json)


@command.command("quota")
@click.argument("address")
@click.argument("size", type=Size(), required=False, metavar="[SIZE]")
@click.option("--messages", "most", metavar="N", help='The most messages, or "none".')
@json_option
@click.pass_context
def quota(context: click.Context, address: str, size: int | None, most: str | None, as_json: bool) -> None:
    """Limit the mail of ADDRESS to SIZE ("none": no limit); without one, tell the limit.

    \b
    Examples: mailstack user quota alice@example.org 5G
              mailstack user quota alice@example.org none --messages 100000
    """
    now = operator()
    found = now.read(verbs.get_user, address)
    given = context.get_parameter_source("size") is click.core.ParameterSource.COMMANDLINE
    if given or most is not None:
        octets = size if given else found.quota_octets
        messages = found.quota_messages if most is None else _number(most)
        now.write(verbs.set_quota, address, octets, messages)
        found = replace(found, quota_octets=octets, quota_messages=messages)
    _show_quota(found, as_json)


@command.command("enable")
@click.argument("address")
@json_option
def enable(address: str, as_json: bool) -> None:
    """Let ADDRESS log in again.

    Example: mailstack user enable alice@example.org
    """
    operator().write(verbs.set_enabled, address, True)
    done(f"{address} may log in", {"address": address, "enabled": True}, as_json)


@command.command("disable")
@click.argument("address")
@json_option
def disable(address: str, as_json: bool) -> None:
    """Let ADDRESS log in no more; mail for it still arrives.

    Example: mailstack user disable alice@example.org
    """
    operator().write(verbs.set_enabled, address, False)
    done(f"{address} may not log in; mail still arrives", {"address": address, "enabled": False}, as_json)


@command.command("remove")
@click.argument("address")
@yes_option
@json_option
def remove(address: str, yes: bool, as_json: bool) -> None:
    """Remove ADDRESS and all mail in its mailboxes, for good.

    Example: mailstack user remove alice@example.org --yes
    """
    now = operator()
    found = now.read(verbs.get_user, address)
    confirm(f"Remove {found.address} and all its mail, for good?", yes)

    def run(db: Connection) -> int:
        from mailstack.store.mailboxes import discard_user

        discard_user(db, verbs.get_user(db, address).id)
        return verbs.remove_user(db, address)

    now.write(run)
    left = now.read(verbs.aliases_of, found.address)
    words = f"{found.address} removed" + (f"; aliases that still name it: {', '.join(left)}" if left else "")
    done(words, {"address": found.address, "aliases_left": left}, as_json)


for _command in senders.COMMANDS:
    command.add_command(_command)


def _list(db: Connection, domain: str | None) -> list[dict[str, Any]]:
    from sqlalchemy import select

    from mailstack.store.tables import usage

    keys = verbs.mechanisms_of_users(db)
    held = {row.user_id: row for row in db.execute(select(usage.c.user_id, usage.c.octets, usage.c.messages))}
    rows = []
    for info in verbs.list_users(db, domain):
        mail = held.get(info.id)
        octets, messages = (mail.octets, mail.messages) if mail else (0, 0)
        rows.append({**asdict(info), "octets": octets, "messages": messages, "keys": keys.get(info.id, ())})
    return rows


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    keys = " ".join(row["keys"]) or None
    return {**row, "quota": size(row["quota_octets"]), "used": size(row["octets"]), "keys": keys}


def _password(
    now: Operator, from_stdin: bool, given: str | None, generate: bool
) -> tuple[str, tuple[StoredKeys, ...], str | None]:
    """The hash and the keys to store, and the password if it was made here.

    A hash from elsewhere brings none but itself: the user gets them at the first login with the password.
    """
    from mailstack.directory.passwords import BadHash, BadPassword, Passwords

    if from_stdin + generate + (given is not None) > 1:
        raise Misuse("give one of --password-stdin, --password-hash and --generate")
    passwords = Passwords(now.config.directory)
    try:
        if given is not None:
            stored = passwords.read_hash(given)
            return stored, now.config.auth.keeping.brought(stored), None
        made = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) if generate else None
        password = made or (_first_line() if from_stdin else _asked())
        passwords.refuse_short(password)
        return passwords.hash(password), now.config.auth.keeping.make(password), made
    except (BadHash, BadPassword) as error:
        raise OperatorError(str(error)) from error


def _first_line() -> str:
    line = sys.stdin.buffer.readline(64 * 1024)
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise OperatorError("the password is not UTF-8") from None


def _asked() -> str:
    if not output.at_keyboard():
        raise Misuse("there is no terminal to ask for the password: give --password-stdin or --generate")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more")
    return answer


def _done(message: str, row: dict[str, Any], generated: str | None, as_json: bool) -> None:
    if generated is not None:
        row = {**row, "password": generated}
        message = f"{message}; password: {generated}"
    done(message, row, as_json)


def _number(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isdecimal() or len(text) > 18:
        raise Misuse(f"--messages {text}: not a number; write for example 100000, or none")
    return int(text)


def _show_quota(info: UserInfo, as_json: bool) -> None:
    octets, messages = info.quota_octets, info.quota_messages
    if as_json:
        show_json({"address": info.address, "quota_octets": octets, "quota_messages": messages})
    else:
        click.echo(f"{info.address}\t{size(octets)}\t{'-' if messages is None else messages}")
