"""Queries for the messages of some spans of UIDs, which are one or a few for nearly every command.

What SQLAlchemy does to build and to run a statement costs more than five rows do. So where spans are few,
each is one run of a statement that is always the same (`Hot`); where they are many, one is made for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam

from mailstack.store.hot import Hot, slices
from mailstack.store.rows import Span, within
from mailstack.store.tables import message_id, messages

FEW = 8  # spans, each of which is a statement of its own


class Spanned:
    """A SELECT of messages; `id` is the column that names them."""

    def __init__(self, query: Select[Any], id: ColumnElement[int] = messages.c.id) -> None:
        self._query = query
        self._id = id
        self._hot = Hot(query.where(id.between(bindparam("low"), bindparam("high"))))

    def rows(self, db: Connection, mailbox_id: int, spans: Sequence[Span]) -> Iterator[Sequence[Any]]:
        """The driver's own rows, some at a time: SQLAlchemy's row objects would double the cost."""
        for cursor in self._cursors(db, mailbox_id, spans):
            yield from slices(cursor)

    def _cursors(self, db: Connection, mailbox_id: int, spans: Sequence[Span]) -> Iterator[Any]:
        if len(spans) <= FEW:
            for low, high in spans:
                bounds = {"low": message_id(mailbox_id, low), "high": message_id(mailbox_id, high)}
                yield self._hot.run(db, bounds)
            return
        for condition in within(mailbox_id, spans, self._id):
            result = db.execute(self._query.where(condition))
            yield result.cursor
            result.close()
