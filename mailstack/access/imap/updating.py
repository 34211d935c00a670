"""Searches with UPDATE after a change: what came into their results, and what went (RFC 5267 section 4.3).

Theory of operation. When the session is told of changes, only the messages that are new or changed since are
tested, and the difference is told. The place of a new message in a sorted result is found by halving: a
handful of sort keys are compared, whatever the size of the result.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Sequence

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.contexts import Updated
from mailstack.access.imap.search import find
from mailstack.access.imap.sorting import ordered
from mailstack.store.news import uids_of
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.extension_responses import ESearchUpdate
from mailstack.wire.imap.responses import Response
from mailstack.wire.imap.sequence import SequenceSet

FEW = 10  # messages that are looked for one by one
MANY = 50  # new messages for which the whole result is sorted anew

Parts = tuple[tuple[int, SequenceSet], ...]


def removals(selected: Selected) -> list[Response]:
    """REMOVEFROM for messages that are gone: said while their numbers still hold (section 4.3.4)."""
    gone = selected.view.gone()
    said: list[Response] = []
    for search in selected.updated.values() if gone else ():
        parts = _take(selected, search, gone)
        if parts:
            said.append(ESearchUpdate(search.tag, search.uid, removed=parts, source=search.source))
    return said


async def changes(
    context: Context, selected: Selected
) -> tuple[list[Response], dict[int, tuple[c.Item, ...]]]:
    """ADDTO and REMOVEFROM for what came or changed, as far as the session was told of it.

    And what is to be fetched of messages that are new in some result.
    """
    said: list[Response] = []
    wanted: dict[int, tuple[c.Item, ...]] = {}
    for search in list(selected.updated.values()):
        before = search.last
        removed, added, came = await _look(context, selected, search)
        if removed or added:
            said.append(ESearchUpdate(search.tag, search.uid, added, removed, search.source))
        for uid in came if search.items else ():
            if uid > before:
                wanted[uid] = tuple(dict.fromkeys((*wanted.get(uid, ()), *search.items)))
    return said, wanted


async def _look(context: Context, selected: Selected, search: Updated) -> tuple[Parts, Parts, list[int]]:
    """Test what is new or changed since the last look; what goes, what comes, and the UIDs that come."""
    view, mailbox = selected.view, selected.mailbox
    now = mailbox.highest_modseq
    last = view.uid(len(view)) if len(view) else 0
    doubtful = list(view.slice(view.place(search.last + 1), len(view)))
    if search.modseq < now and _depends_on_flags(search.key):
        changed = mailbox.changed_since(search.modseq)
        doubtful += [uid for uid in changed if uid <= search.last and view.sequence(uid) is not None]
    search.modseq, search.last = now, last
    if not doubtful:
        return (), (), []
    doubtful.sort()
    matching = set(uids_of(await find(context, selected, search.key, doubtful)))
    members = _members(search, doubtful)
    left = [uid for uid in doubtful if uid in members and uid not in matching]
    came = [uid for uid in doubtful if uid in matching and uid not in members]
    removed = _take(selected, search, set(left)) if left else ()
    added = await _put(context, selected, search, came) if came else ()
    return removed, added, came


def _take(selected: Selected, search: Updated, uids: Collection[int]) -> Parts:
    """Take UIDs out of a result; what to tell, the last places first: so each place holds when it is read."""
    places = _places(search, uids)
    if not places:
        return ()
    gone = [search.found[place] for place in places]
    if len(places) <= FEW:
        for place in reversed(places):
            del search.found[place]
    else:
        search.found = array("I", [uid for uid in search.found if uid not in uids])
    if not search.criteria:
        return ((0, search.numbers(selected, gone)),)
    return tuple((first + 1, search.numbers(selected, some)) for first, some in reversed(_runs(places, gone)))


async def _put(context: Context, selected: Selected, search: Updated, uids: list[int]) -> Parts:
    """Put UIDs into a result where they belong; what to tell, the first places first."""
    if not search.criteria:
        if search.found and uids[0] < search.found[-1]:
            search.found = array("I", sorted((*search.found, *uids)))
        else:
            search.found.extend(uids)
        return ((0, search.numbers(selected, uids)),)
    if len(uids) > MANY:
        every = [*search.found, *uids]
        search.found = array("I", await ordered(context, selected, every, search.criteria))
    for uid in uids if len(uids) <= MANY else ():
        search.found.insert(await _place(context, selected, search, uid), uid)
    places = _places(search, set(uids))
    runs = _runs(places, [search.found[place] for place in places])
    return tuple((first + 1, search.numbers(selected, some)) for first, some in runs)


def _members(search: Updated, uids: Sequence[int]) -> set[int]:
    """Those of `uids` that are in the result."""
    if len(uids) <= FEW:
        return {uid for uid in uids if uid in search.found}
    return set(search.found).intersection(uids)


def _places(search: Updated, uids: Collection[int]) -> list[int]:
    """Where they stand in the result, ascending."""
    if len(uids) <= FEW:
        return sorted(search.found.index(uid) for uid in uids if uid in search.found)
    return [place for place, uid in enumerate(search.found) if uid in uids]


async def _place(context: Context, selected: Selected, search: Updated, uid: int) -> int:
    """Where a message belongs in a sorted result."""
    low, high = 0, len(search.found)
    while low < high:
        middle = (low + high) // 2
        pair = await ordered(context, selected, [search.found[middle], uid], search.criteria)
        if len(pair) < 2 or pair[0] != uid:
            low = middle + 1
        else:
            high = middle
    return low


def _runs(places: Sequence[int], uids: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Places that follow one another together: the first place, and the UIDs from there on."""
    runs: list[tuple[int, list[int]]] = []
    for place, uid in zip(places, uids, strict=True):
        if runs and runs[-1][0] + len(runs[-1][1]) == place:
            runs[-1][1].append(uid)
        else:
            runs.append((place, [uid]))
    return runs


def _depends_on_flags(key: k.Key) -> bool:
    """Whether a message may match at one time and not at another."""
    match key:
        case k.HasFlag() | k.ModSeq() | k.Recent():
            return True
        case k.And():
            return any(map(_depends_on_flags, key.keys))
        case k.Or():
            return _depends_on_flags(key.left) or _depends_on_flags(key.right)
        case k.Not() | k.Fuzzy():
            return _depends_on_flags(key.key)
    return False
