"""The algebra of rights (RFC 4314): letters, what implies what, what an access control list gives to whom."""

from __future__ import annotations

from collections.abc import Container, Iterable

ALL = "lrswipkxtea"  # the rights of RFC 4314, in its order
ANYONE = "anyone"
# Rights of RFC 2086, which old clients set and expect to see (RFC 4314 section 2.1.1).
_VIRTUAL = {"c": "kx", "d": "te"}
_KNOWN = frozenset(ALL) | frozenset(_VIRTUAL)


class UnknownRight(ValueError):
    """A letter that is no right here; SETACL answers BAD (RFC 4314 section 3.1)."""


def parse(letters: str) -> frozenset[str]:
    """The rights that these letters name; "c" and "d" for what they have become. Raises UnknownRight."""
    if not _KNOWN.issuperset(letters):
        raise UnknownRight("unknown right")
    return frozenset("".join(_VIRTUAL.get(letter, letter) for letter in letters))


def written(rights: Container[str]) -> str:
    """The letters of a set of rights, with "c" and "d" after them where some of what they meant is given.

    RFC 4314 section 2.1.1: a server that has "k" and "x" says "c" with any of them, and "d" with "e" or "t".
    """
    letters = "".join(letter for letter in ALL if letter in rights)
    return letters + "".join(old for old, new in _VIRTUAL.items() if any(letter in rights for letter in new))


def changed(old: frozenset[str], mode: str, new: frozenset[str]) -> frozenset[str]:
    """What SETACL makes of a set: `mode` is add, remove or replace."""
    if mode == "add":
        return old | new
    return old - new if mode == "remove" else new


def needed_for_flags(flags: Iterable[str]) -> frozenset[str]:
    r"""What STORE needs to change these flags: "s" for \Seen, "t" for \Deleted, "w" for others."""
    return frozenset({r"\seen": "s", r"\deleted": "t"}.get(flag.lower(), "w") for flag in flags)
