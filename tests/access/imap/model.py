"""What the mailboxes of one user hold: the truth that every session of `test_model` is compared with.

Small on purpose: no index, no files, no concurrency. MODSEQs are not predicted, only their rules are kept:
one that is told must be higher than all that were told before the message last changed, and the same for as
long as it did not change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Flags = frozenset[str]


@dataclass(slots=True)
class Letter:
    """One message in one mailbox."""

    uid: int
    flags: Flags
    body: bytes
    floor: int  # its modseq is higher
    modseq: int = 0  # as told since it last changed; 0: not told

    def told(self, modseq: int) -> None:
        """A client was told its modseq."""
        assert modseq > self.floor, f"UID {self.uid}: modseq {modseq} is not above {self.floor}"
        assert self.modseq in (0, modseq), f"UID {self.uid}: modseq {self.modseq} became {modseq}"
        self.modseq = modseq


@dataclass(eq=False, slots=True)
class Box:
    """One mailbox; it keeps its identity when it is renamed."""

    uidvalidity: int
    letters: dict[int, Letter] = field(default_factory=dict)
    uidnext: int = 1
    unclaimed: int = 1  # messages from this UID on are \Recent to nobody yet
    highest: int = 0  # the highest modseq that anybody was told
    keywords: set[str] = field(default_factory=set)
    deleted: bool = False

    def add(self, body: bytes, flags: Iterable[str] = ()) -> Letter:
        """A new message."""
        letter = Letter(self.uidnext, frozenset(flags), body, self.highest)
        self.letters[letter.uid] = letter
        self.uidnext += 1
        self._mind(letter.flags)
        return letter

    def remove(self, uids: Iterable[int]) -> None:
        """Messages are gone for good."""
        for uid in uids:
            del self.letters[uid]

    def change(self, uid: int, flags: Flags) -> None:
        """A message has other flags now."""
        letter = self.letters[uid]
        self._mind(flags)
        if flags != letter.flags:
            letter.flags, letter.floor, letter.modseq = flags, max(self.highest, letter.modseq), 0

    def told(self, modseq: int) -> None:
        """Somebody was told a modseq: of a message, or the highest."""
        self.highest = max(self.highest, modseq)

    def marked(self, uids: Iterable[int]) -> list[int]:
        r"""Those of `uids` that are \Deleted."""
        return [uid for uid in uids if uid in self.letters and r"\Deleted" in self.letters[uid].flags]

    def _mind(self, flags: Flags) -> None:
        self.keywords |= {flag for flag in flags if not flag.startswith("\\")}


def changed(before: Flags, mode: str, flags: Flags) -> Flags:
    """What STORE makes of flags."""
    if mode == "+FLAGS":
        return before | flags
    return before - flags if mode == "-FLAGS" else flags


class Refusal(Exception):
    """The command is answered with NO; the response code it must have."""


class Names:
    """The mailboxes by name (RFC 3501 section 6.3); None: a name that only holds others."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box | None] = {}
        self.epochs: set[int] = set()  # every UIDVALIDITY that there was

    def at(self, name: str) -> Box | None:
        """A mailbox that can be selected."""
        return self.boxes.get(name)

    def make(self, name: str) -> list[str]:
        """CREATE; the names that are new or selectable now."""
        if self.at(name) is not None:
            raise Refusal("ALREADYEXISTS")
        above = [each for each in self._superiors(name) if each not in self.boxes]
        return [*above, name]

    def remove(self, name: str) -> Box | None:
        """DELETE; None: it was a name whose inferiors are gone."""
        if name not in self.boxes:
            raise Refusal("NONEXISTENT")
        box = self.boxes[name]
        has_inferiors = any(each.startswith(name + "/") for each in self.boxes)
        if name == "INBOX" or (box is None and has_inferiors):
            raise Refusal("CANNOT")
        if has_inferiors:
            self.boxes[name] = None
        else:
            del self.boxes[name]
        if box is not None:
            box.deleted = True
        return box

    def rename(self, old: str, new: str) -> list[str]:
        """RENAME, but not of INBOX; the superiors that have to be made."""
        if old not in self.boxes:
            raise Refusal("NONEXISTENT")
        if new in self.boxes:
            raise Refusal("ALREADYEXISTS")
        if new.startswith(old + "/"):
            raise Refusal("CANNOT")
        names = [each for each in self.boxes if each == old or each.startswith(old + "/")]
        targets = {each: new + each.removeprefix(old) for each in names}
        if any(each in self.boxes for each in targets.values()):
            raise Refusal("ALREADYEXISTS")
        made = [each for each in self._superiors(new) if each not in self.boxes]
        moved = {targets[each]: self.boxes.pop(each) for each in names}
        self.boxes.update(moved)
        return made

    def add(self, name: str, uidvalidity: int) -> Box:
        """A new mailbox: no other of the user has or had its UIDVALIDITY."""
        assert uidvalidity not in self.epochs, f"{name}: UIDVALIDITY {uidvalidity} again"
        self.epochs.add(uidvalidity)
        self.boxes[name] = box = Box(uidvalidity)
        return box

    def name_of(self, box: Box) -> str:
        """What a mailbox is called now."""
        return next(name for name, each in self.boxes.items() if each is box)

    @staticmethod
    def _superiors(name: str) -> list[str]:
        parts = name.split("/")
        return ["/".join(parts[:count]) for count in range(1, len(parts))]
