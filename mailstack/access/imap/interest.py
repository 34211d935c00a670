"""What a client wants to be told of (RFC 5465), matched with the user's mailboxes. Pure: nothing waits."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from mailstack.access.imap.groups import Group
from mailstack.access.imap.listing import in_order
from mailstack.access.imap.tree import Tree
from mailstack.store.names import SEPARATOR
from mailstack.store.values import Counts, MailboxInfo
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.responses import ListResponse

MESSAGES = frozenset({"messagenew", "messageexpunge", "flagchange"})
OF_MAILBOXES = frozenset({"mailboxname", "subscriptionchange", "mailboxmetadatachange"})
NO_ACCESS = r"\NoAccess"  # RFC 5465 section 3.1
SUBSCRIBED = r"\Subscribed"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The event groups of one NOTIFY SET, those of the selected mailbox apart."""

    selected: x.EventGroup | None
    others: tuple[tuple[Group, frozenset[str]], ...]

    @classmethod
    def of(cls, groups: Iterable[x.EventGroup], *, inbox_only: bool) -> Wanted:
        """Groups with NONE ask for nothing, and are left out."""
        selected, others = None, []
        for group in groups:
            if group.filter.kind.startswith("selected"):
                selected = group
            elif group.events:
                others.append((Group(group.filter, inbox_only=inbox_only), group.events))
        return cls(selected if selected is not None and selected.events else None, tuple(others))

    @property
    def of_server(self) -> bool:
        """Whether changes of the server's annotations are asked for."""
        return any("servermetadatachange" in events for _, events in self.others)

    @property
    def lists(self) -> bool:
        """Whether the list of mailboxes matters at all."""
        return any(events & (MESSAGES | OF_MAILBOXES) for _, events in self.others)

    def events(self, name: str, subscribed: bool) -> frozenset[str]:
        """What is wanted of a mailbox of that name, all groups together (RFC 5465 section 6)."""
        return frozenset[str]().union(
            *(events for group, events in self.others if group.covers(name, subscribed))
        )


@dataclass(slots=True)
class Watched:
    """One mailbox, beside the selected one: what is wanted of it, and what the client was told."""

    name: str
    events: frozenset[str]
    counts: Counts
    own: bool = True  # it is the user's, and needs no right


@dataclass(slots=True)
class Picture:
    """The user's mailboxes as they were looked at last, and which of them are watched."""

    tree: Tree
    watched: dict[int, Watched] = field(default_factory=dict)
    denied: dict[int, str] = field(default_factory=dict)  # those whose events are wanted but not allowed


def picture(wanted: Wanted, tree: Tree) -> Picture:
    """Match the groups with all names. Long for many: a thread's work."""
    seen = Picture(tree)
    for name, box in tree.boxes.items():
        events = wanted.events(name, name in tree.subscribed)
        if not events & (MESSAGES | {"mailboxmetadatachange"}) or not box.selectable:
            continue
        if "r" in box.rights:  # RFC 5465 section 5: l and r; without l it is not in the tree
            seen.watched[box.id] = Watched(name, events, _counts(box), box.user_id == tree.user_id)
        else:
            seen.denied[box.id] = name
    return seen


def _counts(box: MailboxInfo) -> Counts:
    return Counts(box.uidvalidity, box.uidnext, box.highest_modseq, box.messages, box.unseen)


def initial_status(watched: Watched) -> dict[str, int | str]:
    """The items that NOTIFY SET STATUS tells of a mailbox (RFC 5465 section 3.1)."""
    counts = watched.counts
    items: dict[str, int | str] = {}
    if "messagenew" in watched.events:
        items = {"MESSAGES": counts.messages, "UIDNEXT": counts.uidnext, "UIDVALIDITY": counts.uidvalidity}
    if "flagchange" in watched.events:
        items["HIGHESTMODSEQ"] = counts.highest_modseq
    return items


def status_change(watched: Watched, now: Counts, *, modseqs: bool) -> dict[str, int | str]:
    """The items that tell what happened to a mailbox (RFC 5465 sections 5.1 to 5.3); none: nothing to tell.

    `modseqs`: the client has enabled CONDSTORE or QRESYNC.
    """
    before, events = watched.counts, watched.events
    items: dict[str, int | str] = {}
    if "messagenew" in events and (now.uidnext, now.messages) != (before.uidnext, before.messages):
        items = {"UIDNEXT": now.uidnext, "MESSAGES": now.messages}
    if "flagchange" in events:
        if now.unseen != before.unseen:
            items["UNSEEN"] = now.unseen
        if now.uidvalidity != before.uidvalidity or (
            now.highest_modseq != before.highest_modseq and (modseqs or "UNSEEN" in items)
        ):
            items["UIDVALIDITY"] = now.uidvalidity
    if modseqs and items:
        items["HIGHESTMODSEQ"] = now.highest_modseq
    return items


def doubtful(before: Picture, after: Picture) -> list[int]:
    """Mailboxes that are not seen any more: they are gone, or the user may not see them."""
    seen = {box.id for box in after.tree.boxes.values()}
    return [id for id in (*before.watched, *before.denied) if id not in seen]


def carry_over(before: Picture, after: Picture, alive: Container[int]) -> list[int]:
    """Take over into `after` what the client was told; the mailboxes of which there is more to tell.

    `alive`: those of the doubtful that are still there.
    """
    for id in doubtful(before, after):
        if id in alive:
            after.denied[id] = before.denied.get(id) or before.watched[id].name
    known = {box.id for box in before.tree.boxes.values()}
    by_name = {watched.name: watched.counts for watched in before.watched.values()}
    more = []
    for id, watched in after.watched.items():
        now = watched.counts
        if id in before.watched:
            watched.counts = before.watched[id].counts
        elif id not in known or id in before.denied:  # of its first messages nothing was said yet
            fresh = Counts(now.uidvalidity, 1, now.highest_modseq, 0, 0)
            watched.counts = by_name.get(watched.name, fresh)  # RFC 5465 section 5.1: a new UIDVALIDITY
        if watched.counts != now:
            more.append(id)
    return more


def list_changes(wanted: Wanted, before: Picture, after: Picture, own: Container[str]) -> list[ListResponse]:
    """The LIST responses for what happened to the names (RFC 5465 sections 5.4, 5.5 and 5.9).

    `own`: names that this client itself has changed: of them it is not told.
    """
    old_names: dict[str, str] = {}  # of renamed mailboxes, by their new names
    told = _named(wanted, before, after, old_names) | _subscribed(wanted, before.tree, after.tree)
    told = {name for name in told if name not in own}
    denied = _denied(before, after)
    return [
        ListResponse(name, _attributes(after.tree, name, name in denied), old_name=old_names.get(name))
        for name in in_order(told | denied | _allowed(before, after))
    ]


def denials(seen: Picture) -> list[ListResponse]:
    """What may be seen, but not watched (RFC 5465 section 3.1)."""
    return [ListResponse(name, _attributes(seen.tree, name, True)) for name in in_order(seen.denied.values())]


def _attributes(tree: Tree, name: str, denied: bool) -> tuple[str, ...]:
    words = tree.attributes(name)
    if name in tree.subscribed:
        words = (SUBSCRIBED, *words)
    return (*words, NO_ACCESS) if denied else words


def _named(wanted: Wanted, before: Picture, after: Picture, old_names: dict[str, str]) -> set[str]:
    """The names that came, went or changed, and the names right above those (RFC 5465 section 5.4)."""
    old, new = before.tree.boxes, after.tree.boxes
    old_by_id = {box.id: name for name, box in old.items()}
    new_ids = {box.id: name for name, box in new.items()}
    renamed = {
        old_by_id[id]: name for id, name in new_ids.items() if id in old_by_id and old_by_id[id] != name
    }
    explained = {was for was, now in renamed.items() if _follows(was, now, renamed)}
    came = {name for name, box in new.items() if box.id not in old_by_id}
    went = {name for name, box in old.items() if box.id not in new_ids and name not in new}
    touched = came | went
    touched |= {above for name in touched if (above := name.rpartition(SEPARATOR)[0])}
    for was, now in renamed.items():
        if was not in explained:
            touched.add(now)
            old_names[now] = was
    found = set()
    for name in touched:
        subscribed = name in before.tree.subscribed or name in after.tree.subscribed
        events = wanted.events(name, subscribed)
        if name in old_names:
            events |= wanted.events(old_names[name], subscribed)
        if "mailboxname" in events:
            found.add(name)
    return found


def _follows(was: str, now: str, renamed: Mapping[str, str]) -> bool:
    """Whether a mailbox has its new name only because one above it was renamed."""
    at = was.rfind(SEPARATOR)
    while at > 0:
        above = renamed.get(was[:at])
        if above is not None and above + was[at:] == now:
            return True
        at = was.rfind(SEPARATOR, 0, at)
    return False


def _subscribed(wanted: Wanted, before: Tree, after: Tree) -> set[str]:
    changed = before.subscribed ^ after.subscribed
    return {name for name in changed if "subscriptionchange" in wanted.events(name, True)}


def _denied(before: Picture, after: Picture) -> set[str]:
    """Mailboxes that were watched and may not be any more, though they are there."""
    return {name for id, name in after.denied.items() if id in before.watched}


def _allowed(before: Picture, after: Picture) -> set[str]:
    """Mailboxes of which we said that they may not be watched, and that may be now."""
    return {after.watched[id].name for id in before.denied if id in after.watched}
