"""What happened to the selected mailbox meanwhile, as untagged responses (RFC 3501 sections 5.2 and 7)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from mailstack.access.imap.context import Context, Selected
from mailstack.store.news import Later, uids_of
from mailstack.store.tables import UID_MASK
from mailstack.store.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, Update
from mailstack.wire.imap.codes import highest_modseq
from mailstack.wire.imap.responses import Exists, Expunged, Flags, Recent, Untagged, Vanished, encode
from mailstack.wire.imap.rights import needed_for_flags
from mailstack.wire.imap.sequence import SequenceSet

SYSTEM_FLAGS = (ANSWERED, FLAGGED, DELETED, SEEN, DRAFT)
RECENT = r"\Recent"
SLICE = 1_000  # messages whose flags are told before others are served

_ORDER = {flag: place for place, flag in enumerate(SYSTEM_FLAGS)}


@lru_cache(maxsize=4096)
def flag_list(flags: frozenset[str], recent: bool) -> bytes:
    r"""``(\Answered \Seen $Label1)``: system flags first, in a fixed order."""
    names = sorted(flags, key=lambda flag: (_ORDER.get(flag, len(_ORDER)), flag))
    if recent:
        names.append(RECENT)
    return ("(" + " ".join(names) + ")").encode("ascii", "replace")


def known_flags(selected: Selected) -> bytes:
    r"""FLAGS and PERMANENTFLAGS; ``\*``: the client may make new keywords (RFC 3501 section 7.1)."""
    selected.keywords = selected.mailbox.keywords
    names = (*SYSTEM_FLAGS, *selected.keywords)
    lasting = "" if selected.read_only else " ".join(_changeable(names, selected.rights))
    words = "Read-only" if selected.read_only else "Flags permitted"
    return encode((Flags(names), Untagged("OK", words, f"PERMANENTFLAGS ({lasting})")))


def _changeable(names: tuple[str, ...], rights: str) -> list[str]:
    r"""What may be changed, ``\*`` for new keywords: RFC 4314 section 5.1.1 wants it said exactly."""
    return [name for name in (*names, r"\*") if needed_for_flags((name,)) <= set(rights)]


def flag_responses(selected: Selected, uids: Iterable[int], with_uid: bool) -> bytes:
    """A FETCH response with the flags of each of `uids` that is still there; for thousands, by columns."""
    flags_of, recent = selected.mailbox.flags_of, selected.recent
    rows = selected.mailbox.rows(uids)
    numbers = selected.view.sequences(uids_of(rows))
    rows = [row for row in rows if row[0] & UID_MASK in numbers]
    known = uids_of(rows)
    template = b"* %d UIDFETCH (" if selected.uid_only else b"* %d FETCH ("
    columns: list[Iterable[int | bytes]] = [known if selected.uid_only else [numbers[uid] for uid in known]]
    named = with_uid or selected.vanishes or selected.revised  # RFC 9051 section 7.5.2
    if named and not selected.uid_only:  # that begins with the UID
        template += b"UID %d "
        columns.append(known)
    if selected.modseqs:
        template += b"MODSEQ (%d) "
        columns.append([row[2] for row in rows])
    if recent:
        columns.append([flag_list(flags_of(row[1]), row[0] & UID_MASK in recent) for row in rows])
    else:
        written = {mask: flag_list(flags_of(mask), False) for mask in {row[1] for row in rows}}
        columns.append([written[row[1]] for row in rows])
    template += b"FLAGS %b)\r\n"
    return b"".join([template % values for values in zip(*columns, strict=True)])


async def pending(context: Context, selected: Selected, *, expunges: bool, with_uid: bool = False) -> bytes:
    """All that the client has not been told yet; where it is much, the last of it: the rest is said here."""
    said, later = taken(selected, expunges=expunges, with_uid=with_uid)
    if later is None:
        return said
    if said:
        await context.say(said)
    await tell_flags(context, selected, later, with_uid)
    return held_back(selected)


def taken(
    selected: Selected, *, expunges: bool, with_uid: bool = False, flags: bool = True
) -> tuple[bytes, Later | None]:
    """What is to be said first of what the client has not been told, and what `tell_flags` has to tell then.

    From here on all of it counts as told. EXPUNGE only where `expunges` (RFC 3501 section 7.4.1: not while
    answering FETCH, STORE or SEARCH); without `flags`, nothing of flags that others changed.
    """
    if "r" not in selected.rights or selected.doubted:
        return b"", None
    update = selected.view.catch_up(expunges)
    said = b"" if selected.keywords == selected.mailbox.keywords else known_flags(selected)
    said += _told(selected, update, with_uid, flags) if update else b""
    if flags and update.later is not None:
        return said, update.later
    return said + held_back(selected), None


async def tell_flags(context: Context, selected: Selected, later: Later, with_uid: bool) -> None:
    """Say the flags of many messages, as they are by now; others are served meanwhile."""
    view, mailbox = selected.view, selected.mailbox
    for start in range(0, view.place(later.last + 1), SLICE):
        await context.services.pause()
        changed = later.among(mailbox.rows(view.slice(start, start + SLICE)))
        if changed:
            await context.say(flag_responses(selected, changed, with_uid))


def held_back(selected: Selected) -> bytes:
    """The modseq up to which all is told, where an EXPUNGE has to wait or did (RFC 7162 sections 3.2 and 6).

    A client that leaves now must not take a modseq above that EXPUNGE's from the FETCH responses.
    """
    if not selected.modseqs or selected.view.is_behind == selected.behind is False:
        return b""
    selected.behind = selected.view.is_behind
    return encode(Untagged("OK", "All is told up to this", highest_modseq(selected.view.told)))


def _told(selected: Selected, update: Update, with_uid: bool, flags: bool) -> bytes:
    said = b""
    if (selected.vanishes or selected.uid_only) and update.vanished:
        said += Vanished(SequenceSet.of(update.vanished)).encode()
    else:
        said += encode(tuple(Expunged(number) for number in update.expunged))
    if update.exists is not None:
        said += Exists(update.exists).encode()
    if update.recent is not None and not selected.revised:
        said += Recent(update.recent).encode()
    return said + (flag_responses(selected, update.changed, with_uid) if flags else b"")
