"""Which mailboxes a filter of NOTIFY or ESEARCH means (RFC 5465 section 6, RFC 7377 section 2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from mailstack.access.imap.patterns import INBOX
from mailstack.access.imap.tree import Tree, superiors
from mailstack.store.names import OTHER_USERS, SEPARATOR, canonical
from mailstack.wire.imap import extensions as x

_OTHERS = OTHER_USERS + SEPARATOR


class Group:
    """One filter, ready to be asked of many names."""

    __slots__ = ("_filter", "_names", "_wide")

    def __init__(self, source: x.MailboxFilter, *, inbox_only: bool) -> None:
        """`inbox_only`: mail is delivered to INBOX alone, so that "inboxes" means no other."""
        self._filter = source
        self._names = frozenset(map(canonical, source.names))
        self._wide = not inbox_only

    def covers(self, name: str, subscribed: bool) -> bool:
        """Whether a mailbox of that name, which may be one that is no more, is meant."""
        match self._filter.kind:
            case "inboxes":
                return name == INBOX or (self._wide and not name.startswith(_OTHERS))
            case "personal":
                return not name.startswith(_OTHERS)
            case "subscribed":
                return subscribed
            case "mailboxes":
                return name in self._names
            case "subtree":
                return name in self._names or not self._names.isdisjoint(superiors(name))
            case "subtree-one":
                return name in self._names or name.rpartition(SEPARATOR)[0] in self._names
        return False  # the selected mailbox is no question of its name


def readable(tree: Tree, groups: Iterable[Group]) -> set[str]:
    """The names that some group covers, of mailboxes that can be selected and that the user may read."""
    every = list(groups)
    return {
        name
        for name, box in tree.boxes.items()
        if box.selectable
        and "r" in box.rights
        and any(group.covers(name, name in tree.subscribed) for group in every)
    }
