"""Quick resynchronization (RFC 7162 section 3.2): what a client has missed since it last looked."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from mailstack.access.imap.context import Context, Selected
from mailstack.access.imap.updates import flag_responses
from mailstack.wire.imap.commands import Resync
from mailstack.wire.imap.responses import Vanished
from mailstack.wire.imap.sequence import LARGEST, SequenceSet

SLICE = 1000  # messages told before others are served


async def resynchronize(context: Context, selected: Selected, known: Resync) -> None:
    """Say what vanished and what changed, if the client's UIDs are still ours (RFC 7162 section 3.2.5)."""
    if known.uidvalidity != selected.mailbox.uidvalidity:
        return
    uids = known.uids or SequenceSet(((1, max(1, selected.mailbox.uidnext - 1)),))
    await context.say(await vanished(selected, uids, known.modseq))
    ranges = uids.resolve(LARGEST)
    changed = _within(ranges, selected.mailbox.changed_since(known.modseq))
    for start in range(0, len(changed), SLICE):
        await context.say(flag_responses(selected, changed[start : start + SLICE], with_uid=True))
        await context.services.pause()


async def vanished(selected: Selected, uids: SequenceSet, since: int) -> bytes:
    """VANISHED (EARLIER) of those of `uids` that were expunged after modseq `since`, nothing if none was.

    Where the index has forgotten some, all that are not there: the client may hear of some again
    (RFC 7162 section 3.2.6). Not those that still have a number in this session: their VANISHED, which takes
    the number away, is to come.
    """
    highest = selected.mailbox.uidnext - 1
    ranges = uids.resolve(highest)
    gone = await selected.mailbox.vanished_since(since)
    if gone is not None:
        gone = [uid for uid in gone if selected.view.sequence(uid) is None]
    found = _missing(selected, ranges) if gone is None else SequenceSet.of(_within(ranges, gone))
    return Vanished(found, earlier=True).encode() if found else b""


def _within(ranges: list[range], uids: Iterable[int]) -> list[int]:
    """Those of ascending `uids` that lie in ascending, disjoint ranges."""
    ordered = list(uids)
    found: list[int] = []
    for run in ranges:
        found += ordered[bisect_left(ordered, run.start) : bisect_right(ordered, run.stop - 1)]
    return found


def _missing(selected: Selected, ranges: list[range]) -> SequenceSet:
    """The UIDs of the ranges that no message has, as ranges: they are never counted out."""
    present = selected.view.uids
    holes: list[tuple[int, int]] = []
    for run in ranges:
        first = run.start
        for uid in present[bisect_left(present, run.start) : bisect_right(present, run.stop - 1)]:
            if first < uid:
                holes.append((first, uid - 1))
            first = uid + 1
        if first < run.stop:
            holes.append((first, run.stop - 1))
    return SequenceSet(tuple(holes))
