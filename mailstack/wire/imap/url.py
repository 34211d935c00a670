"""IMAP URLs of messages and their parts (RFC 5092), and their authorization (RFC 4467, RFC 5593 for PARTIAL).

A subset: what CATENATE, GENURLAUTH and URLFETCH take, that is `imap://user@host/mailbox;UIDVALIDITY=1/;UID=2/
;SECTION=1.2/;PARTIAL=0.100;EXPIRE=...;URLAUTH=access:mechanism:token` without the line end, or its part from
`/mailbox` on.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from mailstack.wire.imap import mutf7

INTERNAL = "INTERNAL"  # the one mechanism (RFC 4467 section 3)
LONGEST = 4096
_SERVER = re.compile(
    r"imap://(?:(?P<user>[^/@;?#]*)(?:;AUTH=(?P<auth>\*|[^/@;?#]+))?@)?"
    r"(?P<host>[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?=/)",
    re.IGNORECASE,
)
_PATH = re.compile(
    r"/(?P<mailbox>[^;?#]*?)(?:;UIDVALIDITY=(?P<uidvalidity>[1-9][0-9]{0,9}))?/;UID=(?P<uid>[1-9][0-9]{0,9})"
    r"(?:/;SECTION=(?P<section>[^;?#]*?))?(?:/;PARTIAL=(?P<offset>[0-9]{1,18})(?:\.(?P<length>[1-9][0-9]{0,17}))?)?"
    r"(?:;EXPIRE=(?P<expire>[0-9T:.+Zz-]{20,40}))?"
    r"(?:;URLAUTH=(?P<access>submit\+[^:;?#]+|user\+[^:;?#]+|authuser|anonymous)"
    r"(?::(?P<mechanism>[A-Z0-9.-]+):(?P<token>[0-9A-F]{32,256}))?)?/?",
    re.IGNORECASE,
)


class BadUrl(ValueError):
    """It is no URL of a message."""


@dataclass(frozen=True, slots=True)
class Url:
    """What a URL names. `host` is None in a relative one. `section`: as between the brackets of BODY[...].

    `partial`: offset and number of octets, None up to the end. `expire`: seconds since 1970. `access`: who
    may
    use it: "submit+user", "user+user", "authuser" or "anonymous", None without URLAUTH; `rump` is what the
    token signs, and `mechanism` and `token` are None where the URL itself is a rump.
    """

    mailbox: str
    uid: int
    uidvalidity: int | None = None
    section: str = ""
    partial: tuple[int, int | None] | None = None
    user: str | None = None
    host: str | None = None
    port: int = 143
    expire: int | None = None
    access: str | None = None
    rump: str = ""
    mechanism: str | None = None
    token: str | None = None


def parse(text: str) -> Url:
    """The URL. Raises BadUrl."""
    if len(text) > LONGEST or not text.isascii():
        raise BadUrl("not a URL")
    server = _SERVER.match(text)
    path = _PATH.fullmatch(text, server.end() if server else 0)
    if path is None:
        raise BadUrl("not the URL of a message")
    uid, uidvalidity = int(path["uid"]), int(path["uidvalidity"]) if path["uidvalidity"] else None
    if max(uid, uidvalidity or 0) > 2**32 - 1:
        raise BadUrl("number too large")
    mailbox = _decoded(path["mailbox"])
    partial = (
        (int(path["offset"]), int(path["length"]) if path["length"] else None) if path["offset"] else None
    )
    return Url(
        "INBOX" if mailbox.upper() == "INBOX" else mailbox,
        uid,
        uidvalidity,
        _decoded(path["section"] or ""),
        partial,
        _decoded(server["user"]) if server and server["user"] is not None else None,
        _decoded(server["host"]).lower() if server else None,
        int(server["port"] or 143) if server else 143,
        _seconds(path["expire"]),
        _decoded(path["access"]) if path["access"] else None,
        text[: path.end("access")] if path["access"] else "",
        path["mechanism"].upper() if path["mechanism"] else None,
        path["token"].lower() if path["token"] else None,
    )


def _decoded(text: str) -> str:
    octets = unquote_to_bytes(text)
    if b"\0" in octets or b"\r" in octets or b"\n" in octets:
        raise BadUrl("a control character")
    return mutf7.raw(octets)


def _seconds(stamp: str | None) -> int | None:
    if stamp is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(stamp.upper())
    except ValueError:
        raise BadUrl("bad EXPIRE") from None
    if moment.tzinfo is None:
        raise BadUrl("EXPIRE without a zone")
    return int(moment.timestamp())


def authorized(rump: str, key: bytes) -> str:
    """The whole URL of a rump, signed with the mailbox's key (RFC 4467 section 7, GENURLAUTH)."""
    return f"{rump}:internal:{_token(rump, key)}"


def is_authorized(url: Url, key: bytes) -> bool:
    """Whether the URL's token was made with this key. Who may use it, and until when, is for the caller."""
    if url.mechanism != INTERNAL or url.token is None:
        return False
    return hmac.compare_digest(url.token, _token(url.rump, key))


def _token(rump: str, key: bytes) -> str:
    """The token; "01" is the algorithm's version: the mechanism is our own affair (RFC 4467)."""
    return "01" + hmac.new(key, rump.encode("ascii"), hashlib.sha256).hexdigest()
