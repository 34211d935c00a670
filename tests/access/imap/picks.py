"""What the steps of `test_model` choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.access.imap.picture import Picture

DEFAULTS = ("INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive")
NAMES = ("INBOX", "Trash", "A", "B", "A/C", "B/C", "A/C/D")
FLAGS = (r"\Seen", r"\Deleted", r"\Flagged", r"\Answered", r"\Draft", "$Label", "Work", "work2")

who = st.integers(0, 2)
mailbox = st.sampled_from(NAMES)
busy = st.sampled_from(("INBOX", "INBOX", "INBOX", "A", "A", *NAMES))
flag_sets = st.frozensets(st.sampled_from(FLAGS), max_size=3)


@dataclass(frozen=True)
class Pick:
    """Messages to name, whatever there is: places are taken modulo the view's length."""

    places: tuple[int, ...]
    shape: str  # "each", "range", "all", "last", "saved"

    def choose(self, picture: Picture, by_uid: bool) -> tuple[str, list[int]] | None:
        """The sequence set, and the UIDs that it names; None where nothing can be named."""
        view = picture.view
        if self.shape == "saved":
            return "$", [uid for uid in view if uid in picture.saved]
        if not view:
            return ("1:*", []) if by_uid or self.shape == "all" else None
        places = sorted({place % len(view) for place in self.places})
        name = (lambda at: str(view[at])) if by_uid else (lambda at: str(at + 1))
        match self.shape:
            case "all":
                return "1:*", list(view)
            case "last":
                return "*", view[-1:]
            case "range":
                low, high = places[0], places[-1]
                return f"{name(high)}:{name(low)}", view[low : high + 1]
        return ",".join(map(name, reversed(places))), [view[at] for at in places]


picks = st.builds(
    Pick,
    st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    st.sampled_from(("each", "each", "range", "all", "last", "saved")),
)


def with_flag(flag: str) -> Any:
    return lambda letter: flag in letter.flags


KEYS: dict[str, Any] = {
    "ALL": lambda letter: True,
    "SEEN": with_flag(r"\Seen"),
    "UNSEEN": lambda letter: r"\Seen" not in letter.flags,
    "DELETED": with_flag(r"\Deleted"),
    "UNFLAGGED": lambda letter: r"\Flagged" not in letter.flags,
    "KEYWORD Work": with_flag("Work"),
    "UNKEYWORD $Label": lambda letter: "$Label" not in letter.flags,
    "LARGER 100": lambda letter: len(letter.body) > 100,
    "SUBJECT two": lambda letter: b"Subject: two" in letter.body,
    "BODY needle": lambda letter: b"needle" in letter.body,
}
BODIES = (
    b"From: a@example.test\r\nSubject: one\r\n\r\nshort\r\n",
    b"From: a@example.test\r\nSubject: two\r\n\r\nA needle in a body of more than a hundred octets, which this is\r\n",
    b"Subject: =?utf-8?q?three?=\r\n\r\n\x00\xff bare\rand\n no end",
)
