"""The result variable `$` (RFC 5182): what it stands for is put in its place before a command is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mailstack.access.imap.context import Selected
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.sequence import SequenceSet


def resolved(command: c.Command, selected: Selected | None) -> c.Command:
    """The command without `$`: by UID or by sequence number, as the command counts."""
    if selected is None:
        return command
    changes: dict[str, Any] = {}
    match command:
        case c.Fetch() | c.Store() | c.Copy() | c.Move() if command.set.saved:
            changes["set"] = _named(selected, command.uid)
        case c.Expunge() if command.uids is not None and command.uids.saved:
            changes["uids"] = _named(selected, by_uid=True)
        case c.Search() | x.Sort() | x.Thread() if names_saved(command.key):
            changes["key"] = _key(command.key, SequenceSet.of(selected.saved))
    return replace(command, **changes) if changes else command


def _named(selected: Selected, by_uid: bool) -> SequenceSet:
    """Messages that are gone meanwhile are taken out (RFC 5182 section 2.1)."""
    numbers = [(uid, number) for uid in selected.saved if (number := selected.view.sequence(uid)) is not None]
    return SequenceSet.of(uid if by_uid else number for uid, number in numbers)


def names_saved(key: k.Key) -> bool:
    """Whether `$` stands in it."""
    match key:
        case k.Numbers() | k.Uids():
            return key.set.saved
        case k.And():
            return any(map(names_saved, key.keys))
        case k.Or():
            return names_saved(key.left) or names_saved(key.right)
        case k.Not() | k.Fuzzy():
            return names_saved(key.key)
    return False


def _key(key: k.Key, saved: SequenceSet) -> k.Key:
    match key:
        case k.Numbers() | k.Uids() if key.set.saved:
            return k.Uids(saved)
        case k.And():
            return k.And(tuple(_key(each, saved) for each in key.keys))
        case k.Or():
            return k.Or(_key(key.left, saved), _key(key.right, saved))
        case k.Not():
            return k.Not(_key(key.key, saved))
        case k.Fuzzy():
            return k.Fuzzy(_key(key.key, saved))
    return key


def keep(selected: Selected, uids: Sequence[int], returns: frozenset[str], partial: c.Partial | None) -> None:
    """Save a result, `uids` in its order: all of it, or only what is told of it.

    RFC 5182 section 2.4: the first and last where only MIN or MAX is asked for; RFC 9394 section 3.2: with
    PARTIAL that part too; with COUNT or ALL always everything.
    """
    ends = returns & {"MIN", "MAX"}
    chosen = set(uids)
    if (ends or partial is not None) and not returns & {"ALL", "COUNT"}:
        chosen = set() if partial is None else set(uids[partial.slice(len(uids))])
        chosen.update(uids[0 if end == "MIN" else -1] for end in ends if uids)
    selected.saved = tuple(sorted(chosen))
