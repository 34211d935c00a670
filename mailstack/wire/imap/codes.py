"""Response codes of extensions, as the `code` of a `Tagged` or `Untagged` takes them: without brackets."""

from __future__ import annotations

from collections.abc import Iterable

from mailstack.wire.imap.sequence import SequenceSet

CLOSED = "CLOSED"  # RFC 7162 section 3.2.11: what follows is of the newly selected mailbox
UID_REQUIRED = "UIDREQUIRED"  # RFC 9586 section 3.1: sequence numbers after ENABLE UIDONLY
UNKNOWN_CTE = "UNKNOWN-CTE"  # RFC 3516 section 4.3
NOTIFICATION_OVERFLOW = "NOTIFICATIONOVERFLOW"  # RFC 5465 section 5.8
METADATA_TOO_MANY = "METADATA TOOMANY"  # RFC 5464 section 4.3


def highest_modseq(modseq: int) -> str:
    """HIGHESTMODSEQ (RFC 7162 section 3.1.2.1)."""
    return f"HIGHESTMODSEQ {modseq}"


def modified(numbers: Iterable[int]) -> str:
    """MODIFIED: what a conditional STORE has left alone (RFC 7162 section 3.1.3); UIDs for UID STORE."""
    return f"MODIFIED {SequenceSet.of(numbers)}"


def mailbox_id(identifier: str) -> str:
    """MAILBOXID, of CREATE and SELECT (RFC 8474 section 4)."""
    return f"MAILBOXID ({identifier})"


def in_progress(tag: str, done: int | None = None, goal: int | None = None) -> str:
    """INPROGRESS: how far a long command has come (RFC 9585 section 4); `goal` needs `done`."""
    progress = "NIL NIL" if done is None else f"{done} {'NIL' if goal is None else goal}"
    return f'INPROGRESS ("{tag}" {progress})'


def message_limit(most: int, uid: int | None = None) -> str:
    """MESSAGELIMIT: only so many messages are done at once; `uid`: the last one that was (RFC 9738)."""
    return f"MESSAGELIMIT {most}" + ("" if uid is None else f" {uid}")


def bad_url(url: str) -> str:
    """BADURL: of CATENATE (RFC 4469 section 3); what a code cannot hold is left out."""
    return "BADURL " + (
        "".join(letter for letter in url if " " < letter <= "~" and letter not in '"\\]') or "-"
    )


def url_mechanisms(*names: str) -> str:
    """URLMECH, in the answer to SELECT (RFC 4467 section 8)."""
    return " ".join(("URLMECH INTERNAL", *names))


def no_update(tag: str) -> str:
    """NOUPDATE: the search's result cannot be kept up to date (RFC 5267 section 4.3)."""
    return f'NOUPDATE "{tag}"'


def undefined_filter(name: str) -> str:
    """UNDEFINED-FILTER (RFC 5466 section 3.1)."""
    return f"UNDEFINED-FILTER {name}"


def metadata_long_entries(largest: int) -> str:
    """METADATA LONGENTRIES: values are longer than MAXSIZE, the longest so many octets (RFC 5464)."""
    return f"METADATA LONGENTRIES {largest}"


def metadata_max_size(most: int) -> str:
    """METADATA MAXSIZE: the largest value that the server keeps, in octets (RFC 5464 section 4.3)."""
    return f"METADATA MAXSIZE {most}"
