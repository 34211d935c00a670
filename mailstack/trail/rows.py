"""The trail's rows: written, looked up, pruned. Blocking functions, each a part of one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select

from mailstack.db import touches
from mailstack.db.many import Insert
from mailstack.trail.notes import MOST_TEXT, Note, key_of
from mailstack.trail.tables import trail

SLICE = 1000  # rows that one transaction prunes
_MOST_SHOWN = 10_000  # rows of one answer

_t = trail.c
_INSERT = Insert(trail, "id")
_TO_JSON = json.JSONEncoder(default=str).encode


@touches()
def write(db: Connection, notes: Sequence[Note]) -> None:
    """Write down what happened, in this transaction."""
    _INSERT.rows(db, [_row(note) for note in notes])


def find(db: Connection, what: str, since: float) -> list[Note]:
    """All that happened since `since` to the messages that `what` names, oldest first.

    `what` is a Message-ID, a queue id or an address; the notifications about a message come with it.
    """
    ids = _ids(db, what, since)
    found: list[Note] = []
    for id_ in ids:
        family = or_(_t.envelope_id == id_, (_t.envelope_id > f"{id_}.") & (_t.envelope_id < f"{id_}/"))
        query = select(trail).where(family, _t.at >= since).order_by(_t.at, _t.id)
        found += map(_note, db.execute(query.limit(_MOST_SHOWN - len(found))))
        if len(found) >= _MOST_SHOWN:
            break
    return list({(note.at, note.id, note.event, note.address): note for note in found}.values())


def prune(db: Connection, before: float) -> int:
    """Delete the oldest rows from before `before`, at most SLICE; return how many."""
    old = select(_t.id).where(_t.at < before).order_by(_t.at).limit(SLICE)
    return db.execute(delete(trail).where(_t.id.in_(old.scalar_subquery()))).rowcount


def _ids(db: Connection, what: str, since: float) -> list[str]:
    """The queue ids that `what` stands for, in the order they came."""
    bare = what.strip()
    bracketed = bare if bare.startswith("<") else f"<{bare}>"
    address = key_of(bare.strip("<>"))
    named = or_(_t.envelope_id == bare, _t.message_id == bracketed, _t.address == address)
    rows = db.execute(
        select(_t.envelope_id).where(named, _t.at >= since).order_by(_t.at.desc()).limit(_MOST_SHOWN)
    )
    ids = list(dict.fromkeys(row[0] for row in rows))
    roots = dict.fromkeys(one.partition(".")[0] for one in reversed(ids))
    return list(roots)


def _row(note: Note) -> dict[str, Any]:
    return {
        "at": note.at,
        "envelope_id": _text(note.id),
        "message_id": _text(note.message_id),
        "address": _text(note.address),
        "event": note.event,
        "detail": _detail(note.detail),
    }


def _detail(detail: dict[str, Any]) -> str:
    said = {key: value for key, value in detail.items() if value is not None}
    text = _TO_JSON(said)
    return text if len(text) <= MOST_TEXT else _TO_JSON(_bounded(said))


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MOST_TEXT]
    if isinstance(value, int):
        return value
    if isinstance(value, dict):
        return {key: _bounded(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_bounded(one) for one in _some(value)]
    return value


def _some(values: Iterable[Any]) -> list[Any]:
    return list(values)[:100]


def _text(text: str | None) -> str | None:
    """What any database takes as text: no NUL, nothing that is not Unicode."""
    if text is None or (text.isascii() and "\0" not in text):
        return text if text is None else text[:MOST_TEXT]
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:MOST_TEXT]


def _note(row: Row[Any]) -> Note:
    return Note(row.at, row.envelope_id, row.event, row.address, row.message_id, json.loads(row.detail))
