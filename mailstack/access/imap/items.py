"""A FETCH's items, compiled once: what must be read for them, and how a message's line is written.

Theory of operation. Most FETCHes ask the same few things of thousands of messages. So the items become one
template with a place for each value, and a tuple of small functions that give the values; for each message
there is then one call a value and one formatting. Where all values are in memory, they come in columns, one
for thousands of messages, and there is no call at all. Sections that need the message's text are left to
`fetch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailstack.access.imap import sections
from mailstack.access.imap.context import Selected, Unsupported
from mailstack.access.imap.texts import TextItem
from mailstack.access.imap.updates import flag_list
from mailstack.store.news import Row
from mailstack.store.values import Entry, Facts
from mailstack.wire.imap.commands import Attribute, Binary, BinarySize, Item, Preview, Section
from mailstack.wire.imap.downgrade import seven_bit
from mailstack.wire.imap.responses import date_time, literal

Value = Callable[[Entry, Facts], bytes | int]
Column = Callable[[Sequence[int], Sequence[Row]], Iterable[bytes | int]]  # a value for each UID and row

# RFC822 and its kin are sections by an older name (RFC 3501 section 6.4.5).
OLD_NAMES: dict[Attribute, Section] = {
    Attribute.RFC822: Section(),
    Attribute.RFC822_HEADER: Section(text="HEADER", peek=True),
    Attribute.RFC822_TEXT: Section(text="TEXT"),
}
NO_FACTS = Facts()
NO_ENVELOPE = b"(" + b" ".join([b"NIL"] * 10) + b")"

_date = lru_cache(maxsize=8192)(date_time)


@dataclass(frozen=True, slots=True)
class Line:
    """How the values that need no message text are written: ``UID %d FLAGS %b``."""

    template: bytes
    values: tuple[Value, ...]
    columns: tuple[Column, ...] = ()  # the same of many messages; only where all of them are in memory

    def write(self, entry: Entry, facts: Facts) -> bytes:
        """The items of one message."""
        return self.template % tuple([value(entry, facts) for value in self.values])

    def responses(
        self, head: tuple[bytes, Iterable[int]], uids: Sequence[int], rows: Sequence[Row]
    ) -> list[bytes]:
        """``* 7 FETCH (...)`` of many messages, from `columns`; `head` as `Selected.fetches` gives it."""
        columns = [column(uids, rows) for column in self.columns]
        template = head[0] + self.template + b")\r\n"
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
        return len(self.line.values) + len(self.texts)

    @property
    def marks_seen(self) -> bool:
        r"""Whether some section is not peeked at: it sets \Seen (RFC 3501 section 6.4.5)."""
        return any(not getattr(item, "peek", True) for _, item in self.texts)


def compile_items(items: Sequence[Item], selected: Selected) -> Plan:
    """The plan for `items`, in their order, those that need message text last."""
    names: list[bytes] = []
    values: list[Value] = []
    texts: list[tuple[bytes, TextItem]] = []
    columns: set[str] = set()
    for item in items:
        if isinstance(item, Binary | BinarySize):
            texts.append((item.label, item))
            columns.add("structure")
            continue
        if isinstance(item, Preview):
            names.append(b"PREVIEW %b")
            values.append(_preview)
            columns.add("preview")
            continue
        section = OLD_NAMES.get(item) if isinstance(item, Attribute) else item
        if section is None:
            assert isinstance(item, Attribute)  # OLD_NAMES has the others
            template, value, needed = _attribute(item, selected)
            names.append(item.value + b" " + template)
            values.append(value)
            columns.update(needed)
        elif section.peek and sections.is_common(section):
            names.append(_escaped(section.label) + b" %b")
            values.append(_common(section))
            columns.update(("fields", "header_size"))
        else:
            texts.append((item.value if isinstance(item, Attribute) else section.label, section))
            columns.update(_columns(section))
    in_memory = () if columns or texts else tuple(_column(item, selected) for item in items)
    return Plan(Line(b" ".join(names), tuple(values), in_memory), tuple(texts), frozenset(columns))


def _columns(section: Section) -> tuple[str, ...]:
    if sections.needs_structure(section):
        return ("structure",)
    return ("header_size",) if section.text else ()


def _escaped(label: bytes) -> bytes:
    return label.replace(b"%", b"%%")


def _common(section: Section) -> Value:
    answer = sections.common_fields(section)
    return lambda entry, facts: answer(facts.fields)


def _attribute(item: Attribute, selected: Selected) -> tuple[bytes, Value, tuple[str, ...]]:
    recent, text = selected.recent, _as_it_is if selected.utf8 else seven_bit
    match item:
        case Attribute.FLAGS:
            return b"%b", lambda entry, facts: flag_list(entry.flags, entry.uid in recent), ()
        case Attribute.UID:
            return b"%d", lambda entry, facts: entry.uid, ()
        case Attribute.INTERNALDATE:
            return b"%b", lambda entry, facts: _date(entry.internal_date, entry.zone), ()
        case Attribute.SIZE:
            return b"%d", lambda entry, facts: entry.size, ()
        case Attribute.MODSEQ:
            return b"(%d)", lambda entry, facts: entry.modseq, ()
        case Attribute.ENVELOPE:
            return b"%b", lambda entry, facts: text(facts.envelope or NO_ENVELOPE), ("envelope",)
        case Attribute.BODY:
            return b"%b", lambda entry, facts: text(facts.body or _no_body(entry)), ("body",)
        case Attribute.BODYSTRUCTURE:
            value: Value = lambda entry, facts: text(facts.body_structure or _no_body(entry))  # noqa: E731
            return b"%b", value, ("body_structure",)
        case Attribute.EMAILID:
            return b"(%b)", lambda entry, facts: facts.email_id, ("email_id",)
        case Attribute.THREADID:
            return b"(%b)", lambda entry, facts: facts.thread_id, ("thread_id",)
        case Attribute.SAVEDATE:  # never NIL: every mailbox of ours keeps it (RFC 8514 section 4.2)
            return b"%b", lambda entry, facts: _date(facts.saved, 0), ("saved",)
    raise Unsupported(item.value.decode())


def _as_it_is(value: bytes) -> bytes:
    return value


class _FlagLists(dict[int, bytes]):
    """FLAGS of each mask that occurs, written once."""

    def __init__(self, selected: Selected) -> None:
        self._flags_of = selected.mailbox.flags_of

    def __missing__(self, mask: int) -> bytes:
        written = self[mask] = flag_list(self._flags_of(mask), False)
        return written


def _column(item: Item, selected: Selected) -> Column:
    """The values of an item that is in memory, for many messages."""
    match item:
        case Attribute.FLAGS:
            return _flags_column(selected)
        case Attribute.UID:
            return lambda uids, rows: uids
        case Attribute.INTERNALDATE:
            return lambda uids, rows: [_date(row[3], row[4]) for row in rows]
        case Attribute.SIZE:
            return lambda uids, rows: [row[5] for row in rows]
        case Attribute.MODSEQ:
            return lambda uids, rows: [row[2] for row in rows]
    raise Unsupported(str(item))


def _flags_column(selected: Selected) -> Column:
    recent, flags_of, written = selected.recent, selected.mailbox.flags_of, _FlagLists(selected)

    def column(uids: Sequence[int], rows: Sequence[Row]) -> Iterable[bytes]:
        if not recent:
            return [written[row[1]] for row in rows]
        return [flag_list(flags_of(row[1]), uid in recent) for uid, row in zip(uids, rows, strict=True)]

    return column


def _preview(entry: Entry, facts: Facts) -> bytes:
    """PREVIEW (RFC 8970 section 3), quoted if it can be."""
    text = facts.preview
    return b'"' + text + b'"' if text.isascii() and not set(text) & _SPECIAL else literal(text)


_SPECIAL = frozenset(b'"\\\r\n\0')


def _no_body(entry: Entry) -> bytes:
    """The BODY of a message whose structure could not be read when it came: plain text."""
    return b'("TEXT" "PLAIN" NIL NIL NIL "8BIT" %d 0)' % entry.size
