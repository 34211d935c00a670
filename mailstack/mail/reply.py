"""Replies: what an SMTP server answers (RFC 5321 section 4.2, RFC 3463)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

MAX_REPLY_LINE = 512  # octets with CRLF, RFC 5321 section 4.5.3.1.5


@dataclass(frozen=True, slots=True)
class Reply:
    """A three-digit code, an enhanced status code (or ""), and text of one or more lines."""

    code: int
    enhanced: str
    text: str

    @property
    def accepted(self) -> bool:
        """2xx: responsibility has passed (RFC 5321 section 6.1)."""
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        """4xx: the same again later may work."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx: it will not work."""
        return self.code >= 500

    def encode(self, utf8: bool = True) -> bytes:
        """The reply as lines with CRLF; every line carries the enhanced code (RFC 2034 section 4).

        Without `utf8` what is not ASCII is written like `\\xe9`.
        """
        text = self.text
        if not utf8 and not text.isascii():
            text = text.encode("ascii", "backslashreplace").decode()
        return _encoded(self.code, self.enhanced, text)

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}".replace("  ", " ").replace("\n", " / ")


@lru_cache(maxsize=250)  # nearly all of what we say is always the same
def _encoded(code: int, enhanced: str, text: str) -> bytes:
    prefix = f"{enhanced} " if enhanced else ""
    *lines, last = text.split("\n")
    begun = b"".join(_line(f"{code}-", f"{prefix}{line}") for line in lines)
    return begun + _line(f"{code} ", f"{prefix}{last}")


def _line(code: str, text: str) -> bytes:
    """A line of a reply, cut where it is too long: text may come from a filter, or quote an address."""
    line = f"{code}{text.rstrip()}".encode("utf-8", "replace")
    if len(line) > MAX_REPLY_LINE - 2:
        line = line[: MAX_REPLY_LINE - 2].decode("utf-8", "ignore").encode()
    return line + b"\r\n"


@dataclass(frozen=True, slots=True)
class Replies:
    """LMTP's answer to a message: a reply for each accepted RCPT, in order (RFC 2033 section 4.2)."""

    each: tuple[Reply, ...]


class Refused(Exception):
    """The peer gets this reply and the conversation goes on; only Conversation catches it."""

    def __init__(self, reply: Reply, note: str = "") -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.note = note  # what the peer is not told, and the message's trail is


LOCAL_ERROR = Reply(451, "4.3.0", "Local error; try again later")
