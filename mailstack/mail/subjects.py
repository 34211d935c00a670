"""The base subject of a message (RFC 5256 section 2.1): without "Re:", "Fwd:", "[list]" and the like."""

from __future__ import annotations

import re
from typing import NamedTuple

LONGEST = 2000  # characters of a subject that are looked at

_BLOB = r"\[[^\[\]]*\][ \t]*"
_SPACES = re.compile(r"[ \t\r\n]+")
_LEADER = re.compile(rf"(?:{_BLOB})*(?:re|fwd?)[ \t]*(?:{_BLOB})?:|[ \t]", re.IGNORECASE)
_FIRST_BLOB = re.compile(_BLOB)
_PLAIN_START = frozenset("rRfF[ \t")
_PLAIN_END = frozenset(") \t]")


class Subject(NamedTuple):
    """The base subject, and whether the whole one was that of a reply or a forward."""

    base: str
    reply: bool


def base_subject(subject: str) -> Subject:
    """The base subject of a subject whose encoded words are decoded. Never raises; bounded by LONGEST."""
    subject = subject[:LONGEST]
    if not subject:
        return Subject("", False)
    if "  " in subject or "\t" in subject or "\n" in subject or "\r" in subject:
        subject = _SPACES.sub(" ", subject)
    if subject[0] not in _PLAIN_START and subject[-1] not in _PLAIN_END:
        return Subject(subject, False)
    reply = False
    while True:
        subject, trailed = _without_trailers(subject)
        subject, led = _without_leaders(subject)
        reply = reply or trailed or led
        if subject[:5].lower() != "[fwd:" or not subject.endswith("]"):
            return Subject(subject, reply)
        subject, reply = subject[5:-1], True  # step 6, and again from step 2


def _without_trailers(subject: str) -> tuple[str, bool]:
    """Step 2."""
    end, reply = len(subject), False
    while end:
        if subject[end - 1] in " \t":
            end -= 1
        elif subject[max(0, end - 5) : end].lower() == "(fwd)":
            end -= 5
            reply = True
        else:
            break
    return subject[:end], reply


def _without_leaders(subject: str) -> tuple[str, bool]:
    """Steps 3 to 5."""
    at, reply = 0, False
    while True:
        found = _LEADER.match(subject, at)
        if found is not None:
            at = found.end()
            reply = reply or found[0] not in (" ", "\t")
            continue
        blob = _FIRST_BLOB.match(subject, at)
        if blob is None or blob.end() == len(subject):  # step 4: not if nothing would be left
            return subject[at:], reply
        at = blob.end()
