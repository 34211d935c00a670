"""A FETCH's items, compiled once: what must be read for them, and how the lines are written.

Theory of operation. Most FETCHes ask the same few things of thousands of messages. So the items become one
template with a place for each value, and a tuple of functions that give the values in columns, one for
hundreds of messages: for each message there is then no call, and one formatting. Sections that need the
message's text are left to `fetch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import compress
from typing import Any

from mailstack.access.imap import sections
from mailstack.access.imap.context import Selected, Unsupported
from mailstack.access.imap.texts import TextItem
from mailstack.access.imap.updates import flag_list
from mailstack.store.news import Row, uids_of
from mailstack.wire.imap.commands import Attribute, Binary, BinarySize, Item, Preview, Section
from mailstack.wire.imap.downgrade import seven_bit
from mailstack.wire.imap.responses import date_time, literal

# RFC822 and its kin are sections by an older name (RFC 3501 section 6.4.5).
OLD_NAMES: dict[Attribute, Section] = {
    Attribute.RFC822: Section(),
    Attribute.RFC822_HEADER: Section(text="HEADER", peek=True),
    Attribute.RFC822_TEXT: Section(text="TEXT"),
}
NO_ENVELOPE = b"(" + b" ".join([b"NIL"] * 10) + b")"
IN_UTF8 = ("envelope", "body", "body_structure")  # facts that may hold it

_date = lru_cache(maxsize=8192)(date_time)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some messages, column by column."""

    uids: Sequence[int]
    rows: Sequence[Row]
    facts: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # a value for each, by names of `Facts`

    def without_expunged(self) -> Batch:
        """Only those whose rows there are; `rows` has no gaps, the others have."""
        if len(self.rows) == len(self.uids):
            return self
        there = set(uids_of(self.rows))
        kept = [uid in there for uid in self.uids]
        facts = {name: list(compress(column, kept)) for name, column in self.facts.items()}
        return Batch(uids_of(self.rows), self.rows, facts)

    def at(self, places: Sequence[int]) -> Batch:
        """The messages at those places alone."""
        uids, rows, *columns = (
            list(map(column.__getitem__, places)) for column in (self.uids, self.rows, *self.facts.values())
        )
        return Batch(uids, rows, dict(zip(self.facts, columns, strict=True)))


Column = Callable[[Batch], Iterable[bytes | int]]  # a value for each message


@dataclass(frozen=True, slots=True)
class Line:
    """How the values that need no message text are written: ``UID %d FLAGS %b``."""

    template: bytes
    columns: tuple[Column, ...]

    def responses(
        self, head: tuple[bytes, Iterable[int]], batch: Batch, end: bytes = b")\r\n"
    ) -> list[bytes]:
        """``* 7 FETCH (...)`` of each message up to `end`; `head` as `Selected.fetches` gives it."""
        columns = [column(batch) for column in self.columns]
        template = head[0] + self.template + end
        return list(map(template.__mod__, zip(head[1], *columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a FETCH."""

    line: Line
    texts: tuple[tuple[bytes, TextItem], ...]  # name in the response and section, for what needs the text
    columns: frozenset[str]  # of the facts

    @property
    def items(self) -> int:
        """How many."""
        return len(self.line.columns) + len(self.texts)

    @property
    def marks_seen(self) -> bool:
        r"""Whether some section is not peeked at: it sets \Seen (RFC 3501 section 6.4.5)."""
        return any(not getattr(item, "peek", True) for _, item in self.texts)


def compile_items(items: Sequence[Item], selected: Selected) -> Plan:
    """The plan for `items`, in their order, those that need message text last."""
    names: list[bytes] = []
    values: list[Column] = []
    texts: list[tuple[bytes, TextItem]] = []
    needed: set[str] = set()
    for item in items:
        if isinstance(item, Binary | BinarySize):
            texts.append((item.label, item))
            needed.add("structure")
            continue
        if isinstance(item, Preview):
            names.append(b"PREVIEW %b")
            values.append(_of_fact("preview", _preview))
            needed.add("preview")
            continue
        section = OLD_NAMES.get(item) if isinstance(item, Attribute) else item
        if section is None:
            assert isinstance(item, Attribute)  # OLD_NAMES has the others
            names.append(item.value + b" " + _TEMPLATES.get(item, b"%b"))
            values.append(_column(item, selected))
            needed.update(_FACTS.get(item, ()))
        elif section.peek and sections.is_common(section):
            names.append(_escaped(section.label) + b" %b")
            values.append(_of_fact("fields", sections.common_fields(section)))
            needed.update(("fields", "header_size"))
        else:
            texts.append((item.value if isinstance(item, Attribute) else section.label, section))
            needed.update(_columns(section))
    return Plan(Line(b" ".join(names), tuple(values)), tuple(texts), frozenset(needed))


def _columns(section: Section) -> tuple[str, ...]:
    if sections.needs_structure(section):
        return ("structure",)
    return ("header_size",) if section.text else ()


def _escaped(label: bytes) -> bytes:
    return label.replace(b"%", b"%%")


_TEMPLATES = {
    Attribute.UID: b"%d",
    Attribute.SIZE: b"%d",
    Attribute.MODSEQ: b"(%d)",
    Attribute.EMAILID: b"(%b)",
    Attribute.THREADID: b"(%b)",
}
_FACTS = {  # what must be read
    Attribute.ENVELOPE: ("envelope",),
    Attribute.BODY: ("body",),
    Attribute.BODYSTRUCTURE: ("body_structure",),
    Attribute.EMAILID: ("email_id",),
    Attribute.THREADID: ("thread_id",),
    Attribute.SAVEDATE: ("saved",),
}


def _column(item: Attribute, selected: Selected) -> Column:
    """The values of an item for many messages."""
    text = _as_it_is if selected.utf8 else seven_bit
    match item:
        case Attribute.FLAGS:
            return _flags_column(selected)
        case Attribute.UID:
            return lambda batch: batch.uids
        case Attribute.INTERNALDATE:
            return lambda batch: [_date(row[3], row[4]) for row in batch.rows]
        case Attribute.SIZE:
            return lambda batch: [row[5] for row in batch.rows]
        case Attribute.MODSEQ:
            return lambda batch: [row[2] for row in batch.rows]
        case Attribute.ENVELOPE:
            return _of_fact("envelope", lambda value: text(value or NO_ENVELOPE))
        case Attribute.BODY:
            return _structure_column("body", text)
        case Attribute.BODYSTRUCTURE:
            return _structure_column("body_structure", text)
        case Attribute.EMAILID:
            return lambda batch: batch.facts["email_id"]
        case Attribute.THREADID:
            return lambda batch: batch.facts["thread_id"]
        case Attribute.SAVEDATE:  # never NIL: every mailbox of ours keeps it (RFC 8514 section 4.2)
            return _of_fact("saved", lambda value: _date(value, 0))
    raise Unsupported(item.value.decode())


def _of_fact(name: str, written: Callable[[Any], bytes]) -> Column:
    return lambda batch: map(written, batch.facts[name])


def _structure_column(name: str, text: Callable[[bytes], bytes]) -> Column:
    def column(batch: Batch) -> Iterable[bytes]:
        pairs = zip(batch.facts[name], batch.rows, strict=True)
        return [text(value or _no_body(row[5])) for value, row in pairs]

    return column


def _as_it_is(value: bytes) -> bytes:
    return value


class _FlagLists(dict[int, bytes]):
    """FLAGS of each mask that occurs, written once."""

    def __init__(self, selected: Selected) -> None:
        self._flags_of = selected.mailbox.flags_of

    def __missing__(self, mask: int) -> bytes:
        written = self[mask] = flag_list(self._flags_of(mask), False)
        return written


def _flags_column(selected: Selected) -> Column:
    recent, flags_of, written = selected.recent, selected.mailbox.flags_of, _FlagLists(selected)

    def column(batch: Batch) -> Iterable[bytes]:
        if not recent:
            return [written[row[1]] for row in batch.rows]
        pairs = zip(batch.uids, batch.rows, strict=True)
        return [flag_list(flags_of(row[1]), uid in recent) for uid, row in pairs]

    return column


def _preview(text: bytes) -> bytes:
    """PREVIEW (RFC 8970 section 3), quoted if it can be."""
    return b'"' + text + b'"' if text.isascii() and not set(text) & _SPECIAL else literal(text)


_SPECIAL = frozenset(b'"\\\r\n\0')


def _no_body(size: int) -> bytes:
    """The BODY of a message whose structure could not be read when it came: plain text."""
    return b'("TEXT" "PLAIN" NIL NIL NIL "8BIT" %d 0)' % size
