"""What Dovecot keeps beside a Maildir: UIDs, keywords, subscriptions; read once, when it becomes ours.

``dovecot-uidlist`` version 3 (https://doc.dovecot.org, "Maildir mailbox format")::

    3 V1790000000 N12 G7f9b...
    1 :1600000000.M1P1.host,S=2000,W=2040
    2 W2040 :1600000001.M2P1.host:2,S

After the UID come fields of a letter and a value, then a colon and the file's name, or its base name only.
``dovecot-keywords`` has ``0 $Forwarded``: a number, which is a letter in the names of files, and a keyword.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mailstack.store.flags import FIRST_KEYWORD, is_keyword
from mailstack.store.names import SEPARATOR, check_name, mailbox_name
from mailstack.store.values import BadMailboxName

UIDLIST = "dovecot-uidlist"
KEYWORDS = "dovecot-keywords"
MAX_FILE = 256 * 1024 * 1024  # octets
_HEAD = re.compile(r"3 (?=.*\bV(\d{1,10})\b)(?=.*\bN(\d{1,10})\b)")
_LINE = re.compile(r"(\d{1,10}) (?:[^:\n]* )?:(.+)")


@dataclass(frozen=True, slots=True)
class UidList:
    """What ``dovecot-uidlist`` says."""

    uidvalidity: int
    uidnext: int
    uids: dict[str, int]  # by the base name of the file


def read_uids(mailbox: Path) -> UidList | None:
    """The UIDs of a mailbox; None where there is no such file, or it makes no sense. Raise OSError."""
    lines = _lines(mailbox / UIDLIST)
    head = _HEAD.match(lines[0]) if lines else None
    if head is None or not (0 < int(head[1]) < 1 << 32 and 0 < int(head[2]) < 1 << 32):
        return None
    uids: dict[str, int] = {}
    taken: set[int] = set()
    for line in lines[1:]:
        match = _LINE.fullmatch(line)
        if match is None or not 0 < int(match[1]) < 1 << 32 or int(match[1]) in taken:
            continue
        taken.add(int(match[1]))
        uids[match[2].partition(":2,")[0]] = int(match[1])
    return UidList(int(head[1]), max([int(head[2]), *(uid + 1 for uid in taken)]), uids)


def read_keywords(mailbox: Path) -> dict[int, str]:
    """Keywords by their bit in our masks; those that cannot be ours are left out. Raise OSError."""
    found: dict[int, str] = {}
    for line in _lines(mailbox / KEYWORDS):
        number, _, name = line.partition(" ")
        if number.isdecimal() and int(number) < 26 and is_keyword(name):
            found[FIRST_KEYWORD + int(number)] = name
    return found


def read_subscriptions(maildir: Path) -> list[str]:
    """The names in Dovecot's ``subscriptions``: version 2, or one folder's name a line. Raise OSError."""
    lines = _lines(maildir / "subscriptions")
    tabbed = bool(lines) and lines[0] == "V\t2"
    found: set[str] = set()
    for line in lines[2:] if tabbed else lines:
        levels = line.split("\t") if tabbed else line.split(".")
        try:
            found.add(_name(levels) if line else "")
        except BadMailboxName:
            continue
    return sorted(found - {""})


def _name(levels: list[str]) -> str:
    if levels == ["INBOX"]:
        return "INBOX"
    if any("." in level for level in levels):  # allowed by another layout: no name in modified UTF-7
        return check_name(SEPARATOR.join(levels))
    return mailbox_name("." + ".".join(levels))


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE).decode("utf-8", "surrogateescape").split("\n")
    except FileNotFoundError:
        return []
