"""From what the client calls a message to its UID, in one session's view."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from mailstack.store.view import View
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.sequence import SequenceSet


def needs_numbers(command: c.Command) -> bool:
    """Whether a command says or asks for message numbers, which there are none of after ENABLE UIDONLY."""
    match command:
        case c.Fetch() | c.Store() | c.Copy() | c.Move():
            return not command.uid
        case c.Search() | x.Sort() | x.Thread():
            return not command.uid or names_numbers(command.key)
        case x.MultiSearch():
            return names_numbers(command.key)
        case c.Append():
            return command.replaces is not None and not command.replaces.uid
        case c.Select():  # RFC 9586 section 3.7
            return command.qresync is not None and command.qresync.matches is not None
    return False


def names_numbers(key: k.Key) -> bool:
    """Whether message numbers stand in a search key."""
    match key:
        case k.Numbers():
            return True
        case k.And():
            return any(map(names_numbers, key.keys))
        case k.Or():
            return names_numbers(key.left) or names_numbers(key.right)
        case k.Not() | k.Fuzzy():
            return names_numbers(key.key)
    return False


class NoSuchMessage(Exception):
    """A sequence number beyond the last message (RFC 3501 section 6.4: BAD)."""


def uids_in(view: View, uids: SequenceSet) -> list[int]:
    """The UIDs of `uids` that the view has, ascending; others are passed over (RFC 3501 section 6.4.8)."""
    known = view.uids
    if not known:
        return []
    found: list[int] = []
    for run in uids.resolve(known[-1]):
        found += known[bisect_left(known, run.start) : bisect_right(known, run.stop - 1)]
    return found


def uids_numbered(view: View, numbers: SequenceSet, lenient: bool = False) -> list[int]:
    """The UIDs of sequence numbers, ascending; raise NoSuchMessage beyond the last.

    ``1:*`` and ``*`` are taken in an empty mailbox too, and name nothing: clients send them unasked. With
    `lenient`, for SEARCH, a number beyond the last names nothing either.
    """
    known = view.uids
    starred = not known and all(0 in ends for ends in numbers.ranges)
    if not lenient and numbers.highest > len(known) and not starred:
        raise NoSuchMessage
    found: list[int] = []
    for run in numbers.resolve(len(known)):
        found += known[run.start - 1 : run.stop - 1]
    return found


def named(view: View, messages: SequenceSet, by_uid: bool) -> Sequence[int]:
    """The UIDs of the messages that a command names, by UID or by sequence number."""
    return uids_in(view, messages) if by_uid else uids_numbered(view, messages)
