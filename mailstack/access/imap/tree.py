"""The names of a user's mailboxes as LIST tells them (RFC 9051 section 6.3.9)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mailstack.access.imap.context import Context
from mailstack.access.imap.patterns import SEPARATOR
from mailstack.store.names import canonical
from mailstack.store.values import MailboxInfo
from mailstack.wire.imap.responses import ListResponse, Response

NO_SELECT = r"\Noselect"


@dataclass(frozen=True, slots=True)
class Tree:
    """All names of a user."""

    boxes: dict[str, MailboxInfo]
    subscribed: frozenset[str]
    user_id: int
    parents: frozenset[str] = field(init=False)  # names that have an existing name below

    def __post_init__(self) -> None:
        parents = frozenset(above for name in self.boxes for above in superiors(name))
        object.__setattr__(self, "parents", parents)

    def attributes(self, name: str) -> tuple[str, ...]:
        r"""What the name is; a name that does not exist is \Noselect too, for clients that know no better."""
        box = self.boxes.get(name)
        words = [r"\HasChildren" if name in self.parents else r"\HasNoChildren"]
        if box is None:
            return (r"\NonExistent", NO_SELECT, *words)
        if not box.selectable:
            words.insert(0, NO_SELECT)
        return (*words, *box.special_use)


def superiors(name: str) -> list[str]:
    """The names above, the outermost first."""
    return [name[:place] for place, letter in enumerate(name) if letter == SEPARATOR]


async def tree_of(context: Context) -> Tree:
    """The user's names as they are now."""
    boxes = await context.store.mailboxes(context.user_id)
    boxes += await context.store.shared_mailboxes(context.user_id)
    subscribed = await context.store.subscriptions(context.user_id)
    return Tree({box.name: box for box in boxes}, subscribed, context.user_id)


async def listed(context: Context, asked: str) -> ListResponse:
    """The LIST response for one name, as SELECT has it in IMAP4rev2.

    OLDNAME where the client has asked in another normal form of Unicode (RFC 9051 section 6.3.9.7).
    """
    tree, name = await tree_of(context), canonical(asked)
    attributes = tree.attributes(name)
    if name in tree.subscribed:
        attributes = (r"\Subscribed", *attributes)
    return ListResponse(name, attributes, old_name=None if name == asked else asked)


async def normalized(context: Context, *asked: str) -> tuple[Response, ...]:
    """What a client of IMAP4rev2 is told where a name it gave is not the one that is kept: the last of them.

    The first is the old name (RFC 9051 sections 6.3.4 to 6.3.6 and 6.3.12).
    """
    if not context.revised or all(canonical(name) == name for name in asked):
        return ()
    return (replace(await listed(context, asked[-1]), old_name=asked[0]),)
