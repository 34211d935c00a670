"""FETCH and UID FETCH (RFC 3501 section 6.4.5)."""

from __future__ import annotations

import re

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import mutf7
from mailstack.wire.imap.commands import Attribute, Binary, BinarySize, Item, Partial, Preview, Section
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.mailboxes import LARGEST

MOST_FETCHED = 250  # items in one FETCH
_ITEM = re.compile(r"[A-Za-z0-9.]+")
_SECTION = re.compile(
    r"((?:[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8}){0,49})?)"
    r"(\.?)((?:HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME)?)",
    re.IGNORECASE,
)
_PART = re.compile(r"[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8}){0,49}")
_LAZY = re.compile(r" \(LAZY\)", re.IGNORECASE)
_BINARIES = ("BINARY", "BINARY.PEEK", "BINARY.SIZE")
_ATTRIBUTES = {attribute.value.decode(): attribute for attribute in Attribute}
_FAST: tuple[Item, ...] = (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE)
_MACROS: dict[str, tuple[Item, ...]] = {
    "FAST": _FAST,
    "ALL": (*_FAST, Attribute.ENVELOPE),
    "FULL": (*_FAST, Attribute.ENVELOPE, Attribute.BODY),
}


def fetch(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """FETCH, with the modifiers of RFC 7162 and RFC 9394."""
    cursor.expect(" ")
    numbers = cursor.sequence_set()
    cursor.expect(" ")
    items = _items(cursor)
    if uid:
        items = (Attribute.UID, *items)
    modifiers = _modifiers(cursor)
    changed_since, vanished = modifiers.get("CHANGEDSINCE"), "VANISHED" in modifiers
    partial = modifiers.get("PARTIAL")
    if not uid and (vanished or partial is not None):
        raise BadSyntax("VANISHED and PARTIAL are for UID FETCH")
    if vanished and changed_since is None:  # RFC 7162 section 3.2.6
        raise BadSyntax("VANISHED needs CHANGEDSINCE")
    assert changed_since is None or isinstance(changed_since, int)
    assert partial is None or isinstance(partial, Partial)
    return c.Fetch(tag, uid, numbers, tuple(dict.fromkeys(items)), changed_since, vanished, partial)


def uid_fetch(tag: str, cursor: Cursor) -> c.Command:
    """UID FETCH (RFC 3501 section 6.4.8)."""
    return fetch(tag, cursor, uid=True)


def _items(cursor: Cursor) -> tuple[Item, ...]:
    if cursor.peek("("):
        return tuple(cursor.listed(lambda: fetch_item(cursor), most=MOST_FETCHED))
    at = cursor.at
    macro = _MACROS.get(cursor.word(_ITEM, "a FETCH item").upper())
    if macro is not None:
        return macro
    cursor.at = at
    return (fetch_item(cursor),)


def fetch_item(cursor: Cursor) -> Item:
    """One FETCH item, not a macro."""
    name = cursor.word(_ITEM, "a FETCH item").upper()
    if cursor.skip("["):
        if name in _BINARIES:
            return _binary(cursor, name)
        if name not in ("BODY", "BODY.PEEK"):
            raise BadSyntax("only BODY and BINARY have sections")
        return _section(cursor, peek=name == "BODY.PEEK")
    if name == "PREVIEW":
        return _preview(cursor)
    attribute = _ATTRIBUTES.get(name)
    if attribute is None:
        raise BadSyntax("unknown FETCH item")
    return attribute


def read_section(text: str) -> Section:
    """What stands between the brackets of BODY[...], whole. Raises BadSyntax."""
    cursor = Cursor(text + "]", [])
    section = _section(cursor, peek=True)
    cursor.end()
    return section


def _section(cursor: Cursor, *, peek: bool) -> Section:
    found = cursor.match(_SECTION)
    assert found is not None  # the pattern matches nothing, too
    text = found[3].upper()
    if bool(found[2]) != bool(found[1] and text) or (text == "MIME" and not found[1]):
        raise BadSyntax("bad section")
    fields: list[str] = []
    if text.startswith("HEADER.FIELDS"):
        cursor.expect(" ")
        fields = cursor.listed(lambda: mutf7.raw(cursor.astring()))
    cursor.expect("]")
    part = tuple(map(int, found[1].split("."))) if found[1] else ()
    return Section(part, text, tuple(fields), peek, _partial(cursor))


def _partial(cursor: Cursor) -> tuple[int, int] | None:
    if not cursor.skip("<"):
        return None
    offset = cursor.number(LARGEST)
    cursor.expect(".")
    length = cursor.number(LARGEST)
    cursor.expect(">")
    if not length:
        raise BadSyntax("a partial of nothing")
    return offset, length


def _binary(cursor: Cursor, name: str) -> Item:
    """BINARY[1.2]<0.100>, BINARY.PEEK and BINARY.SIZE (RFC 3516 section 4.1)."""
    found = cursor.match(_PART)
    cursor.expect("]")
    part = tuple(map(int, found[0].split("."))) if found is not None else ()
    if name == "BINARY.SIZE":
        return BinarySize(part)
    return Binary(part, name == "BINARY.PEEK", _partial(cursor))


def _preview(cursor: Cursor) -> Item:
    """PREVIEW, PREVIEW (LAZY) (RFC 8970 section 4); other parentheses after it are FETCH's own modifiers."""
    return Preview(lazy=cursor.match(_LAZY) is not None)


def _modifiers(cursor: Cursor) -> dict[str, int | Partial | None]:
    """CHANGEDSINCE, VANISHED (RFC 7162 sections 3.1.4.1 and 3.2.6), PARTIAL (RFC 9394 section 3.3)."""
    found: dict[str, int | Partial | None] = {}
    if not cursor.skip(" ") or cursor.at == len(cursor.text):
        return found

    def modifier() -> None:
        name = cursor.keyword("a modifier")
        if name in found or name not in ("CHANGEDSINCE", "VANISHED", "PARTIAL"):
            raise BadSyntax("unknown modifier")
        found[name] = None
        if name != "VANISHED":
            cursor.expect(" ")
            found[name] = cursor.number(LARGEST) if name == "CHANGEDSINCE" else cursor.partial()

    cursor.listed(modifier, most=3)
    return found
