"""FUZZY in SEARCH (RFC 6203): strings are matched nearly, all else exactly, and how nearly is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailstack.store.values import TooMany
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.responses import Tagged

Searching = c.Search | x.Sort | x.MultiSearch


MOST = 20  # strings in one search that are matched nearly: each costs as much as many plain ones


def pushed(key: k.Key) -> k.Key:
    """The key with FUZZY before its strings alone, where it means something (RFC 6203 section 5).

    What stands under NOT is matched exactly: who takes out mail like this would take out too much. Raise
    TooMany.
    """
    key = _pushed(key)
    if _count(key) > MOST:
        raise TooMany(f"at most {MOST} strings can be FUZZY")
    return key


def _count(key: k.Key) -> int:
    match key:
        case k.Fuzzy():
            return 1
        case k.And():
            return sum(map(_count, key.keys))
        case k.Or():
            return _count(key.left) + _count(key.right)
    return 0


def _pushed(key: k.Key) -> k.Key:
    match key:
        case k.Fuzzy():
            return _fuzzy(key.key)
        case k.And():
            return k.And(tuple(map(_pushed, key.keys)))
        case k.Or():
            return k.Or(_pushed(key.left), _pushed(key.right))
        case k.Not():
            return k.Not(_exact(key.key))
    return key


def _fuzzy(key: k.Key) -> k.Key:
    match key:
        case k.Header() | k.Body() | k.Text():
            return k.Fuzzy(key)
        case k.And():
            return k.And(tuple(map(_fuzzy, key.keys)))
        case k.Or():
            return k.Or(_fuzzy(key.left), _fuzzy(key.right))
    return _pushed(key)


def _exact(key: k.Key) -> k.Key:
    match key:
        case k.Fuzzy():
            return _exact(key.key)
        case k.And():
            return k.And(tuple(map(_exact, key.keys)))
        case k.Or():
            return k.Or(_exact(key.left), _exact(key.right))
        case k.Not():
            return k.Not(_exact(key.key))
    return key


def has_fuzzy(key: k.Key) -> bool:
    """Whether FUZZY stands in it."""
    match key:
        case k.Fuzzy():
            return True
        case k.And():
            return any(map(has_fuzzy, key.keys))
        case k.Or():
            return has_fuzzy(key.left) or has_fuzzy(key.right)
        case k.Not():
            return has_fuzzy(key.key)
    return False


def misuses_relevancy(command: Searching) -> Tagged | None:
    """BAD where RELEVANCY is asked for without FUZZY (RFC 6203 sections 4 and 6)."""
    criteria = command.criteria if isinstance(command, x.Sort) else ()
    asked = "RELEVANCY" in (command.returns or ()) or any(each.key == "RELEVANCY" for each in criteria)
    if asked and not has_fuzzy(command.key):
        return Tagged(command.tag, "BAD", "RELEVANCY needs FUZZY")
    return None


def relevancy(command: Searching, uids: Sequence[int], scores: Mapping[int, int]) -> tuple[int, ...] | None:
    """The scores of what is told, in its order; None if they are not asked for."""
    if "RELEVANCY" not in (command.returns or ()):
        return None
    told = uids if command.partial is None else uids[command.partial.slice(len(uids))]
    return tuple(scores.get(uid, 100) for uid in told)
