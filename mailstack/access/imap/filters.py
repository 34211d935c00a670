"""Searches that are kept under a name: FILTER in SEARCH (RFC 5466), as annotations of the server."""

from __future__ import annotations

from collections.abc import Mapping

from mailstack.access.imap.context import Context
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.grammar.cursor import BadSyntax
from mailstack.wire.imap.grammar.search import read_key

FOLDERS = ("/private/filters/values/", "/shared/filters/values/")  # RFC 5466 section 3.2; the first wins
MOST = 20  # filters in one search, those within filters counted


class UndefinedFilter(Exception):
    """There is no such filter, or what is kept there is no search: its name."""


async def resolved(context: Context, key: k.Key) -> k.Key:
    """The key with what its filters stand for. Raise UndefinedFilter."""
    if not _has_filter(key):
        return key
    return _Reader(await context.store.metadata(context.user_id, None)).read(key)


def _has_filter(key: k.Key) -> bool:
    match key:
        case k.Filter():
            return True
        case k.And():
            return any(map(_has_filter, key.keys))
        case k.Or():
            return _has_filter(key.left) or _has_filter(key.right)
        case k.Not() | k.Fuzzy():
            return _has_filter(key.key)
    return False


class _Reader:
    """Puts keys in the place of filters; one within itself runs into the bound."""

    def __init__(self, kept: Mapping[str, bytes]) -> None:
        self._kept = kept
        self._left = MOST

    def read(self, key: k.Key) -> k.Key:
        match key:
            case k.Filter():
                return self._filter(key.name)
            case k.And():
                return k.And(tuple(map(self.read, key.keys)))
            case k.Or():
                return k.Or(self.read(key.left), self.read(key.right))
            case k.Not():
                return k.Not(self.read(key.key))
            case k.Fuzzy():
                return k.Fuzzy(self.read(key.key))
        return key

    def _filter(self, name: str) -> k.Key:
        values = (self._kept.get(folder + name.lower()) for folder in FOLDERS)
        value = next((value for value in values if value is not None), None)
        self._left -= 1
        if value is None or self._left < 0:
            raise UndefinedFilter(name)
        try:
            return self.read(read_key(value))
        except BadSyntax as error:
            raise UndefinedFilter(name) from error
