"""Names of mailboxes and of the folders made from them: no text, however hostile, leaves its folder."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata

from mailstack.store.values import BadMailboxName

INBOX = "INBOX"
SEPARATOR = "/"
OTHER_USERS = "Other Users"  # the first level of the names of other users' mailboxes (RFC 2342)
MAX_NAME = 200  # characters
MAX_DEPTH = 20  # levels
MAX_FOLDER = 180  # octets of a directory's name; most file systems end at 255
_SAFE = re.compile(r"[A-Za-z0-9_+@=,;!#$()' -]")  # as it is, in a directory's name
_HOME_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_+-.")
_BAD_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}  # control characters, lone surrogates, line ends


def canonical(name: str) -> str:
    """The name as it is kept: INBOX, as a first level too, in capitals (RFC 3501 section 5.1).

    And in Unicode's normal form C: who asks in another one means the same mailbox (RFC 9051 section 5.1).
    """
    name = name if name.isascii() else unicodedata.normalize("NFC", name)
    first, separator, rest = name.partition(SEPARATOR)
    return INBOX + separator + rest if first.upper() == INBOX else name


def check_name(name: str) -> str:
    """The canonical form of a name that may be created. Raise BadMailboxName, saying why."""
    if not 0 < len(name) <= MAX_NAME:
        raise BadMailboxName(f"a name has 1 to {MAX_NAME} characters")
    levels = name.split(SEPARATOR)
    if not all(levels):
        raise BadMailboxName("a level of the name is empty")
    if len(levels) > MAX_DEPTH:
        raise BadMailboxName(f"a name has at most {MAX_DEPTH} levels")
    if any(character in "*%" or unicodedata.category(character) in _BAD_CATEGORIES for character in name):
        raise BadMailboxName("the name has a control character or a wildcard")
    return canonical(name)


def superiors(name: str) -> list[str]:
    """The names above it, the highest first."""
    levels = name.split(SEPARATOR)
    return [SEPARATOR.join(levels[:depth]) for depth in range(1, len(levels))]


def directory_name(name: str) -> str:
    """The Maildir++ folder for a mailbox: "" for INBOX, else a dot and the levels, a dot between.

    What is not plainly safe is written in modified UTF-7 (RFC 3501 section 5.1.3), dots and slashes too, so
    that a level can be neither ``..`` nor a path. A long name is cut and ends in a hash.
    """
    if name == INBOX:
        return ""
    folder = "." + ".".join(_encode_level(level) for level in name.split(SEPARATOR))
    return _bounded(folder)


def mailbox_name(directory: str) -> str:
    """The name that a Maildir++ folder of another program stands for. Raise BadMailboxName."""
    if not directory:
        return INBOX
    try:
        return check_name(SEPARATOR.join(_decode_level(level) for level in directory[1:].split(".")))
    except ValueError as error:
        raise BadMailboxName(f"{directory!r} is no folder's name") from error


def home_name(address: str) -> str:
    """The folder of a user, ``domain/local-part``, from the address; what is not plainly safe as ``%XX``."""
    local_part, _, domain = address.lower().rpartition("@")
    return f"{_encode_home(domain)}/{_encode_home(local_part)}"


def _encode_home(text: str) -> str:
    encoded = "".join(chr(o) if o in _HOME_SAFE else f"%{o:02X}" for o in text.encode("utf-8", "replace"))
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    encoded = encoded or "%"  # which is nobody else's
    return _bounded(encoded)


def _bounded(folder: str) -> str:
    if len(folder) <= MAX_FOLDER:
        return folder
    digest = hashlib.blake2b(folder.encode(), digest_size=10).hexdigest()
    return f"{folder[: MAX_FOLDER - 21]}~{digest}"


def _encode_level(level: str) -> str:
    parts: list[str] = []
    pending: list[str] = []
    for character in [*level, ""]:
        if character and not _SAFE.match(character):
            pending.append(character)
            continue
        if pending:
            data = "".join(pending).encode("utf-16-be")
            parts.append("&" + base64.b64encode(data, b"+,").rstrip(b"=").decode() + "-")
            pending = []
        parts.append(character)
    return "".join(parts)


def _decode_level(level: str) -> str:
    def decode(match: re.Match[str]) -> str:
        if not match[1]:
            return "&"
        data = base64.b64decode(match[1] + "=" * (-len(match[1]) % 4), b"+,", validate=True)
        return data.decode("utf-16-be")

    return re.sub(r"&([^-]*)-", decode, level)
