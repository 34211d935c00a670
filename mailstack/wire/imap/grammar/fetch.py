"""FETCH and UID FETCH (RFC 3501 section 6.4.5)."""

from __future__ import annotations

import re

from mailstack.wire.imap import commands as c
from mailstack.wire.imap import mutf7
from mailstack.wire.imap.commands import Attribute, Item, Section
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.mailboxes import LARGEST

MOST_FETCHED = 250  # items in one FETCH
_ITEM = re.compile(r"[A-Za-z0-9.]+")
_SECTION = re.compile(
    r"((?:[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8}){0,49})?)"
    r"(\.?)((?:HEADER\.FIELDS\.NOT|HEADER\.FIELDS|HEADER|TEXT|MIME)?)",
    re.IGNORECASE,
)
_ATTRIBUTES = {attribute.value.decode(): attribute for attribute in Attribute}
_FAST: tuple[Item, ...] = (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE)
_MACROS: dict[str, tuple[Item, ...]] = {
    "FAST": _FAST,
    "ALL": (*_FAST, Attribute.ENVELOPE),
    "FULL": (*_FAST, Attribute.ENVELOPE, Attribute.BODY),
}


def fetch(tag: str, cursor: Cursor, *, uid: bool = False) -> c.Command:
    """FETCH, with the modifiers of RFC 7162."""
    cursor.expect(" ")
    numbers = cursor.sequence_set()
    cursor.expect(" ")
    items = _items(cursor)
    if uid:
        items = (Attribute.UID, *items)
    changed_since, vanished = _modifiers(cursor)
    if vanished and not uid:
        raise BadSyntax("VANISHED is for UID FETCH")
    return c.Fetch(tag, uid, numbers, tuple(dict.fromkeys(items)), changed_since, vanished)


def uid_fetch(tag: str, cursor: Cursor) -> c.Command:
    """UID FETCH (RFC 3501 section 6.4.8)."""
    return fetch(tag, cursor, uid=True)


def _items(cursor: Cursor) -> tuple[Item, ...]:
    if cursor.peek("("):
        return tuple(cursor.listed(lambda: _item(cursor), most=MOST_FETCHED))
    at = cursor.at
    macro = _MACROS.get(cursor.word(_ITEM, "a FETCH item").upper())
    if macro is not None:
        return macro
    cursor.at = at
    return (_item(cursor),)


def _item(cursor: Cursor) -> Item:
    name = cursor.word(_ITEM, "a FETCH item").upper()
    if cursor.skip("["):
        if name not in ("BODY", "BODY.PEEK"):
            raise BadSyntax("only BODY has sections")
        return _section(cursor, peek=name == "BODY.PEEK")
    attribute = _ATTRIBUTES.get(name)
    if attribute is None:
        raise BadSyntax("unknown FETCH item")
    return attribute


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


def _modifiers(cursor: Cursor) -> tuple[int | None, bool]:
    """CHANGEDSINCE and VANISHED (RFC 7162 sections 3.1.4.1 and 3.2.6)."""
    if not cursor.skip(" ") or cursor.at == len(cursor.text):
        return None, False
    cursor.expect("(")
    if cursor.keyword("CHANGEDSINCE") != "CHANGEDSINCE":
        raise BadSyntax("unknown modifier")
    cursor.expect(" ")
    value = cursor.number(LARGEST)
    vanished = cursor.skip(" ")
    if vanished and cursor.keyword("VANISHED") != "VANISHED":
        raise BadSyntax("unknown modifier")
    cursor.expect(")")
    return value, vanished
