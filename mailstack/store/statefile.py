"""The small text files beside the mail, from which a lost database is made again.

``mailstack-mailbox`` in each mailbox's directory, UTF-8, one item a line::

    # mailstack mailbox 1
    name Archive/2026
    uidvalidity 1790000000
    reserved 3000
    special-use \\Archive
    keyword a $Forwarded

Every UID ever given is below `reserved`. A keyword's letter is the one in the names of the files.
``subscriptions`` in the user's Maildir holds one mailbox name a line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mailstack.store.flags import FIRST_KEYWORD, is_keyword
from mailstack.store.maildir import replace_text
from mailstack.store.names import check_name
from mailstack.store.values import BadMailboxName

FILE = "mailstack-mailbox"
SUBSCRIPTIONS = "subscriptions"
MAX_FILE = 4 * 1024 * 1024  # octets
_HEAD = "# mailstack mailbox 1"


@dataclass(frozen=True, slots=True)
class MailboxState:
    """What ``mailstack-mailbox`` says."""

    name: str
    uidvalidity: int
    reserved: int
    special_use: str = ""
    keywords: dict[int, str] = field(default_factory=dict)  # bit to name; only those that have a letter

    def write(self, mailbox: Path) -> None:
        """Replace the file, durably. Raise OSError."""
        lines = [_HEAD, f"name {self.name}", f"uidvalidity {self.uidvalidity}", f"reserved {self.reserved}"]
        if self.special_use:
            lines.append(f"special-use {self.special_use}")
        for bit, name in sorted(self.keywords.items()):
            if bit < FIRST_KEYWORD + 26:
                lines.append(f"keyword {chr(ord('a') + bit - FIRST_KEYWORD)} {name}")
        replace_text(mailbox / FILE, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, mailbox: Path) -> MailboxState | None:
        """The file's content; None where it is missing or makes no sense."""
        lines = list(_lines(mailbox / FILE))
        if not lines or lines[-1]:  # cut short: a number in it may be another
            return None
        items = dict.fromkeys(("name", "uidvalidity", "reserved", "special-use"), "")
        keywords: dict[int, str] = {}
        for line in lines:
            key, _, value = line.partition(" ")
            if key in items:
                items[key] = value
            elif key == "keyword" and "a" <= value[:1] <= "z" and is_keyword(value[2:]):
                keywords[FIRST_KEYWORD + ord(value[0]) - ord("a")] = value[2:]
        try:
            uidvalidity, reserved = int(items["uidvalidity"]), int(items["reserved"])
            name = check_name(items["name"])
        except (ValueError, BadMailboxName):
            return None
        if not (0 < uidvalidity < 1 << 32 and 0 < reserved < 1 << 32):
            return None
        return cls(name, uidvalidity, reserved, items["special-use"], keywords)


def write_subscriptions(maildir: Path, names: Iterable[str]) -> None:
    """Replace the list, durably. Raise OSError."""
    replace_text(maildir / SUBSCRIPTIONS, "".join(f"{name}\n" for name in sorted(names)))


def read_subscriptions(maildir: Path) -> list[str]:
    """The names in the list that can be names."""
    names = set()
    for line in _lines(maildir / SUBSCRIPTIONS):
        try:
            names.add(check_name(line))
        except BadMailboxName:
            continue
    return sorted(names)


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE).decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
