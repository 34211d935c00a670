"""The mailboxes of a user: made, renamed, removed, listed (RFC 3501 section 6.3). Blocking; in a transaction.

A mailbox's directory is named after the name it was created with and keeps that for life: a rename is one
change of rows, with no moment in which a crash leaves files where no row looks for them. The mailbox's text
file carries the current name.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, bindparam, column, delete, exists, func, insert, select, table, update

from mailstack.db import announce, undo
from mailstack.store.flags import Keywords
from mailstack.store.hot import Hot
from mailstack.store.identity import mailbox_id
from mailstack.store.maildir import make_mailbox
from mailstack.store.names import (
    INBOX,
    OTHER_USERS,
    SEPARATOR,
    check_name,
    directory_name,
    home_name,
    superiors,
)
from mailstack.store.rebuild import rebuild_user
from mailstack.store.rows import BOX, MAILDIR, Box, keywords_of, write_state
from mailstack.store.statefile import MailboxState, write_subscriptions
from mailstack.store.tables import UID_BITS, discarded, mailboxes, messages, subscriptions, usage
from mailstack.store.values import BadMailboxName, MailboxExists, MailboxInfo, NoSuchMailbox, TooMany, Usage

DEFAULT = (
    (INBOX, ""),
    ("Drafts", r"\Drafts"),
    ("Sent", r"\Sent"),
    ("Junk", r"\Junk"),
    ("Trash", r"\Trash"),
    ("Archive", r"\Archive"),
)  # RFC 6154 section 2
_users = table("users", column("id"), column("address"))

_base = mailboxes.c.id * (1 << UID_BITS)  # `message_id`, said in SQL
_recent = (
    select(func.count())
    .select_from(messages)
    .where(messages.c.id >= _base + mailboxes.c.recent_uid)
    .where(messages.c.id < _base + mailboxes.c.uidnext)
    .correlate(mailboxes)
    .scalar_subquery()
)
_subscribed = exists().where(
    subscriptions.c.user_id == mailboxes.c.user_id, subscriptions.c.name == mailboxes.c.name
)
_INFO = (
    select(
        mailboxes.c.id,
        mailboxes.c.user_id,
        mailboxes.c.name,
        mailboxes.c.uidvalidity,
        mailboxes.c.uidnext,
        mailboxes.c.modseq.label("highest_modseq"),
        mailboxes.c.messages,
        mailboxes.c.unseen,
        _recent.label("recent"),
        mailboxes.c.octets,
        mailboxes.c.special_use,
        _subscribed.label("subscribed"),
        mailboxes.c.selectable,
        usage.c.home,
        mailboxes.c.directory,
    )
    .join(usage, usage.c.user_id == mailboxes.c.user_id)
    .where(mailboxes.c.user_id == bindparam("owner"))
)
_INFO_NAMES = tuple(_INFO.selected_columns.keys())
_ONE_INFO = Hot(_INFO.where(mailboxes.c.name == bindparam("mailbox")))


def provision(db: Connection, root: Path, user_id: int) -> str:
    """The user's folder and default mailboxes, whichever are missing; the folder, relative to the store's.

    Raise NoSuchMailbox if there is no such user.
    """
    home = home_of(db, user_id)
    if home is None:
        address = db.execute(select(_users.c.address).where(_users.c.id == user_id)).scalar_one_or_none()
        if address is None:
            raise NoSuchMailbox(f"there is no user {user_id}")
        home = _free_home(db, home_name(address))
        maildir = root / home / MAILDIR
        was_ours = MailboxState.read(maildir) is not None
        if (maildir / "cur").is_dir():
            rebuild_user(
                root, db, user_id, home
            )  # the database was lost, or another program's mail comes to us
        else:
            db.execute(insert(usage).values(user_id=user_id, home=home, octets=0, messages=0, uidvalidity=0))
        wanted = {name: use for name, use in DEFAULT if name == INBOX or not was_ours}
        there = select(mailboxes.c.name).where(mailboxes.c.user_id == user_id)
        for name in db.execute(there.where(mailboxes.c.name.in_(list(wanted)))).scalars():
            del wanted[name]
        if wanted:
            _create(db, root, user_id, home, wanted)
            _subscribe(db, user_id, wanted)
        _write_subscriptions(db, root, user_id, home)
    return home


def home_of(db: Connection, user_id: int) -> str | None:
    """The user's folder, if the user has one."""
    return db.execute(select(usage.c.home).where(usage.c.user_id == user_id)).scalar_one_or_none()


def _free_home(db: Connection, wanted: str) -> str:
    """`wanted`, or with a number while the mail of an earlier user of that address is still being removed."""
    number, home = 1, wanted
    while (
        db.execute(select(discarded.c.path).where(discarded.c.path == f"{home}/{MAILDIR}")).first()
        or db.execute(select(usage.c.home).where(usage.c.home == home)).first()
    ):
        number += 1
        home = f"{wanted}~{number}"
    return home


def usage_of(db: Connection, user_id: int) -> Usage:
    """What the user holds."""
    row = db.execute(select(usage.c.octets, usage.c.messages).where(usage.c.user_id == user_id)).one_or_none()
    return Usage(*row) if row else Usage(0, 0)


def list_mailboxes(db: Connection, user_id: int) -> list[MailboxInfo]:
    """Every mailbox of the user, by name."""
    return sorted((_info(row) for row in db.execute(_INFO, {"owner": user_id})), key=lambda info: info.name)


def mailbox_info(db: Connection, user_id: int, name: str) -> MailboxInfo:
    """One mailbox. Raise NoSuchMailbox."""
    row = _ONE_INFO.run(db, {"owner": user_id, "mailbox": name}).fetchone()
    info = None if row is None else _info(row)
    if info is None or not info.selectable:
        raise NoSuchMailbox(name)
    return info


def must_exist(db: Connection, user_id: int, name: str) -> None:
    """Raise NoSuchMailbox where there is no such name, not even one that only holds others."""
    if _row(db, user_id, name) is None:
        raise NoSuchMailbox(name)


def missing_superiors(db: Connection, user_id: int, name: str) -> list[str]:
    """The names above it that there are not, the highest first."""
    return [superior for superior in superiors(name) if _row(db, user_id, superior) is None]


def must_be_free(db: Connection, user_id: int, name: str) -> None:
    """Raise MailboxExists where there is such a name, even one that only holds others; BadMailboxName."""
    if _row(db, user_id, _check_own(name)) is not None:
        raise MailboxExists(name)


def list_subscriptions(db: Connection, user_id: int) -> frozenset[str]:
    """The names that the user subscribed to, whether or not such mailboxes exist."""
    return frozenset(
        db.execute(select(subscriptions.c.name).where(subscriptions.c.user_id == user_id)).scalars()
    )


def _check_own(name: str) -> str:
    """`check_name`, and not in the namespace of other users' mailboxes."""
    name = check_name(name.removesuffix(SEPARATOR))
    if name.split(SEPARATOR)[0] == OTHER_USERS:
        raise BadMailboxName(f"{OTHER_USERS} holds the mailboxes of other users")
    return name


def create(
    db: Connection, root: Path, user_id: int, name: str, special_use: Sequence[str], most: int
) -> MailboxInfo:
    """Make a mailbox and the superiors it lacks. Raise MailboxExists, BadMailboxName, TooMany, OSError."""
    name = _check_own(name)
    home = _lock_user(db, user_id)
    row = _row(db, user_id, name)
    if row is not None and row.selectable:
        raise MailboxExists(name)
    lacking = _lacking(db, user_id, name, most, beside=row is None)
    _create(db, root, user_id, home, {**dict.fromkeys(lacking, ""), name: " ".join(special_use)})
    return mailbox_info(db, user_id, name)


def _lacking(db: Connection, user_id: int, name: str, most: int, beside: bool) -> list[str]:
    """The superiors that a new name lacks; raise TooMany where they, and one `beside` them, are too many."""
    lacking = missing_superiors(db, user_id, name)
    count = select(func.count()).select_from(mailboxes).where(mailboxes.c.user_id == user_id)
    new = len(lacking) + beside
    if new and db.execute(count).scalar_one() + new > most:
        raise TooMany(f"a user has at most {most} mailboxes")
    return lacking


def remove(db: Connection, user_id: int, name: str) -> int:
    """Delete a mailbox and its messages; its id. One that has inferiors stays as their superior.

    Raise NoSuchMailbox; BadMailboxName for INBOX and for a name that only holds others.
    """
    if name == INBOX:
        raise BadMailboxName("INBOX cannot be deleted")
    home = _lock_user(db, user_id)
    row = _row(db, user_id, name)
    if row is None:
        raise NoSuchMailbox(name)
    has_inferiors = bool(_inferiors(db, user_id, name))
    if has_inferiors and not row.selectable:
        raise BadMailboxName(f"{name} holds other mailboxes")
    db.execute(
        update(usage)
        .where(usage.c.user_id == user_id)
        .values(octets=usage.c.octets - row.octets, messages=usage.c.messages - row.messages)
    )
    db.execute(delete(mailboxes).where(mailboxes.c.id == row.id))
    announce(db, f"gone {row.id}")
    announce(db, f"list {user_id}")
    if row.directory:
        db.execute(insert(discarded).values(path=f"{home}/{MAILDIR}/{row.directory}"))
    if has_inferiors:
        _insert(db, user_id, {name: (None, "")})
    return int(row.id)


def rename(db: Connection, root: Path, user_id: int, old: str, new: str, most: int) -> list[tuple[int, str]]:
    """Rename a mailbox and its inferiors; ids and new names. Not for INBOX.

    Raise NoSuchMailbox, MailboxExists, BadMailboxName, TooMany, OSError.
    """
    new = _check_own(new)
    home = _lock_user(db, user_id)
    must_exist(db, user_id, old)
    must_be_free(db, user_id, new)
    if new.startswith(old + SEPARATOR):
        raise BadMailboxName("a mailbox cannot become its own inferior")
    names = [old, *_inferiors(db, user_id, old)]
    targets = {name: check_name(new + name.removeprefix(old)) for name in names}
    if any(_row(db, user_id, target) is not None for target in targets.values()):
        raise MailboxExists(new)
    lacking = _lacking(db, user_id, new, most, beside=False)
    if lacking:
        _create(db, root, user_id, home, dict.fromkeys(lacking, ""))
    return [(_rename_one(db, root, user_id, name, target), target) for name, target in targets.items()]


def subscribe(db: Connection, root: Path, user_id: int, name: str, most: int) -> None:
    """Add a name to the subscriptions; it need not exist (RFC 3501 section 6.3.6). Raise TooMany, OSError."""
    name = check_name(name)
    home = _lock_user(db, user_id)
    count = select(func.count()).select_from(subscriptions).where(subscriptions.c.user_id == user_id)
    if db.execute(count).scalar_one() >= most:
        raise TooMany(f"a user has at most {most} subscriptions")
    _subscribe(db, user_id, [name])
    _write_subscriptions(db, root, user_id, home)
    announce(db, f"list {user_id}")


def unsubscribe(db: Connection, root: Path, user_id: int, name: str) -> None:
    """Take a name from the subscriptions, if it is there. Raise OSError."""
    home = _lock_user(db, user_id)
    db.execute(delete(subscriptions).where(subscriptions.c.user_id == user_id, subscriptions.c.name == name))
    _write_subscriptions(db, root, user_id, home)
    announce(db, f"list {user_id}")


def discard_user(db: Connection, user_id: int) -> None:
    """Forget all mail of a user; the files go soon after the commit. For the operator's "user remove"."""
    home = home_of(db, user_id)
    if home is None:
        return
    db.execute(delete(discarded).where(discarded.c.path.startswith(f"{home}/{MAILDIR}/", autoescape=True)))
    db.execute(insert(discarded).values(path=f"{home}/{MAILDIR}"))
    for id in db.execute(select(mailboxes.c.id).where(mailboxes.c.user_id == user_id)).scalars():
        announce(db, f"gone {id}")
    announce(db, f"list {user_id}")
    for owned in (subscriptions, mailboxes, usage):
        db.execute(delete(owned).where(owned.c.user_id == user_id))


def _lock_user(db: Connection, user_id: int) -> str:
    """The user's home, all changes to the user's mailboxes kept out until the commit."""
    home = db.execute(
        select(usage.c.home).where(usage.c.user_id == user_id).with_for_update()
    ).scalar_one_or_none()
    if home is None:
        raise NoSuchMailbox(f"user {user_id} has no mail")
    return str(home)


def _row(db: Connection, user_id: int, name: str) -> Any:
    query = BOX.where(mailboxes.c.user_id == user_id, mailboxes.c.name == name)
    return db.execute(query).one_or_none()


def _inferiors(db: Connection, user_id: int, name: str) -> list[str]:
    below = mailboxes.c.name.startswith(name + SEPARATOR, autoescape=True)
    found = db.execute(select(mailboxes.c.name).where(mailboxes.c.user_id == user_id, below)).scalars()
    return sorted(
        other for other in found if other.startswith(name + SEPARATOR)
    )  # LIKE ignores case on SQLite


def _create(db: Connection, root: Path, user_id: int, home: str, wanted: Mapping[str, str]) -> None:
    """Rows and directories of mailboxes, by name their special use; also of names that only held others."""
    named = (mailboxes.c.user_id == user_id, mailboxes.c.name.in_(list(wanted)))
    db.execute(delete(mailboxes).where(*named))
    directories = _free_directories(db, user_id, home, [directory_name(name) for name in wanted])
    for directory in directories:
        make_mailbox(root / home / MAILDIR / directory)
    made = dict(zip(wanted, zip(directories, wanted.values(), strict=True), strict=True))
    _insert(db, user_id, made)
    for row in db.execute(BOX.where(*named)):
        write_state(root, Box(*row), Keywords({}))


def _insert(db: Connection, user_id: int, made: Mapping[str, tuple[str | None, str]]) -> None:
    """Rows of new mailboxes: by name their directory, if they are selectable, and their special use."""
    announce(db, f"list {user_id}")
    now = int(time.time())
    last = select(usage.c.uidvalidity).where(usage.c.user_id == user_id)
    first = max(now, db.execute(last).scalar_one() + 1)
    newest = first + len(made) - 1
    db.execute(update(usage).where(usage.c.user_id == user_id).values(uidvalidity=newest))
    rows = [
        {
            "user_id": user_id,
            "name": name,
            "directory": directory,
            "selectable": directory is not None,
            "uidvalidity": uidvalidity,
            "uidnext": 1,
            "uid_reserved": 1,
            "recent_uid": 1,
            "modseq": 1,
            "special_use": special_use,
            "messages": 0,
            "unseen": 0,
            "octets": 0,
            "created": now,
        }
        for uidvalidity, (name, (directory, special_use)) in enumerate(made.items(), first)
    ]
    db.execute(insert(mailboxes), rows)


def _free_directories(db: Connection, user_id: int, home: str, wanted: Iterable[str]) -> list[str]:
    """Each of `wanted`, or with a number if a renamed or just deleted mailbox lies there."""
    taken = set(db.execute(select(mailboxes.c.directory).where(mailboxes.c.user_id == user_id)).scalars())
    prefix = f"{home}/{MAILDIR}/"
    taken |= {path.removeprefix(prefix) for path in db.execute(select(discarded.c.path)).scalars()}
    free = []
    for name in wanted:
        number, directory = 1, name
        while directory in taken:
            number += 1
            directory = f"{name}~{number}"
        taken.add(directory)
        free.append(directory)
    return free


def _rename_one(db: Connection, root: Path, user_id: int, name: str, target: str) -> int:
    box = Box(*_row(db, user_id, name))
    db.execute(update(mailboxes).where(mailboxes.c.id == box.id).values(name=target))
    announce(db, f"renamed {box.id}", quote(target))
    announce(db, f"list {user_id}")
    if box.selectable:
        renamed = Box(*_row(db, user_id, target))
        known = keywords_of(db, box.id)
        undo(db, lambda: write_state(root, box, known))
        write_state(root, renamed, known)
    return box.id


def _subscribe(db: Connection, user_id: int, names: Collection[str]) -> None:
    known = select(subscriptions.c.name).where(
        subscriptions.c.user_id == user_id, subscriptions.c.name.in_(names)
    )
    new = set(names).difference(db.execute(known).scalars())
    if new:
        db.execute(insert(subscriptions), [{"user_id": user_id, "name": name} for name in sorted(new)])


def _write_subscriptions(db: Connection, root: Path, user_id: int, home: str) -> None:
    names: Iterable[str] = list_subscriptions(db, user_id)
    write_subscriptions(root / home / MAILDIR, names)


def _info(row: Any) -> MailboxInfo:
    values: dict[str, Any] = dict(zip(_INFO_NAMES, row, strict=True))
    values["special_use"] = tuple(values["special_use"].split())
    values["subscribed"] = bool(values["subscribed"])
    values["selectable"] = bool(values["selectable"])
    home, directory = values.pop("home"), values.pop("directory")
    if values["selectable"]:
        values["object_id"] = mailbox_id(home, directory or "", values["uidvalidity"])
    return MailboxInfo(**values)
