"""Searches whose results are kept up to date: RETURN (UPDATE) (RFC 5267 section 4.3).

Of each such search the session keeps the key, the UIDs found, four octets each in one array, and up to which
modseq and UID it has looked; `updating` does the looking. Message numbers in a key are taken to mean the
messages that had them when the command came.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.filters import resolved
from mailstack.access.imap.numbers import uids_numbered
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.codes import no_update
from mailstack.wire.imap.responses import Tagged, Untagged
from mailstack.wire.imap.sequence import SequenceSet

_TOO_MANY = "Too many searches are kept up to date"
_BY_SCORE = "An order by relevancy is not kept up to date"
Searching = c.Search | x.Sort | x.MultiSearch


@dataclass(slots=True)
class Updated:
    """One search: what it asked for, and what its client was told of the result."""

    tag: str
    uid: bool
    key: k.Key
    criteria: tuple[x.Criterion, ...]  # of SORT; none: in the mailbox's order
    items: tuple[c.Item, ...]  # what to FETCH of new messages that match (RFC 5465 section 7)
    source: tuple[str, int] | None  # mailbox and UIDVALIDITY, for ESEARCH
    found: array[int]  # UIDs, in the order of the result
    modseq: int  # all changes up to it are in `found`
    last: int  # and all messages up to this UID

    def numbers(self, selected: Selected, uids: Iterable[int]) -> SequenceSet:
        """UIDs as the command counts messages."""
        if self.uid:
            return SequenceSet.of(uids)
        view = selected.view
        return SequenceSet.of(number for uid in uids if (number := view.sequence(uid)) is not None)


class Registration:
    """A search with UPDATE from its beginning to its end: what comes meanwhile is not lost."""

    __slots__ = ("_command", "_key", "_modseq", "_refused", "_selected")

    def __init__(self, context: Context, selected: Selected, command: Searching) -> None:
        self._command = command
        self._selected = selected
        self._modseq = selected.mailbox.highest_modseq
        # Scores are made by the search alone: an order by them cannot be kept right afterwards.
        by_score = isinstance(command, x.Sort) and any(each.key == "RELEVANCY" for each in command.criteria)
        too_many = len(selected.updated) >= context.services.config.max_contexts
        self._refused = _BY_SCORE if by_score else _TOO_MANY if too_many else ""
        self._key: k.Key = command.key

    async def fix(self, context: Context) -> None:
        """Settle what the key means now. Raise UndefinedFilter."""
        self._key = _fixed(await resolved(context, self._command.key), self._selected)

    async def end(self, context: Context, uids: Sequence[int], source: tuple[str, int] | None = None) -> None:
        """The result, in its order: from here on it is kept, or the client is told that it is not."""
        command, selected = self._command, self._selected
        if self._refused:  # RFC 5267 section 4.3.1
            await context.say(Untagged("NO", self._refused, no_update(command.tag)))
            return
        view = selected.view
        selected.updated[command.tag] = Updated(
            command.tag,
            isinstance(command, x.MultiSearch) or command.uid,
            self._key,
            command.criteria if isinstance(command, x.Sort) else (),
            command.update,
            source,
            array("I", uids),
            self._modseq,
            view.uid(len(view)) if len(view) else 0,
        )


def reuses_tag(selected: Selected, command: Searching) -> Tagged | None:
    """BAD where a search with this tag is kept already (RFC 5267 section 4.3)."""
    if "UPDATE" in (command.returns or ()) and command.tag in selected.updated:
        return Tagged(command.tag, "BAD", "Tag reuse")
    return None


async def begin(context: Context, selected: Selected, command: Searching) -> Registration | None:
    """Before a search: what will keep it up to date, if that is asked for."""
    if "UPDATE" not in (command.returns or ()):
        return None
    registration = Registration(context, selected, command)
    await registration.fix(context)
    return registration


async def cancel(context: Context, command: x.CancelUpdate) -> Tagged:
    """CANCELUPDATE; tags that are not known are passed over."""
    if context.current is not None:
        for tag in command.tags:
            context.current.updated.pop(tag, None)
    return Tagged(command.tag, "OK", "No further updates")


def _fixed(key: k.Key, selected: Selected) -> k.Key:
    """The key with UIDs in the place of message numbers, which change their meaning."""
    match key:
        case k.Numbers():
            uids = uids_numbered(selected.view, key.set, lenient=True)
            return k.Uids(SequenceSet.of(uids)) if uids else k.Not(k.All())
        case k.And():
            return k.And(tuple(_fixed(each, selected) for each in key.keys))
        case k.Or():
            return k.Or(_fixed(key.left, selected), _fixed(key.right, selected))
        case k.Not():
            return k.Not(_fixed(key.key, selected))
        case k.Fuzzy():
            return k.Fuzzy(_fixed(key.key, selected))
    return key
