"""LIST, plain and extended, and LSUB (RFC 3501 sections 6.3.8 and 6.3.9, RFC 5258, RFC 5819, RFC 6154)."""

from __future__ import annotations

from collections.abc import Iterable

from mailstack.access.imap import metadata
from mailstack.access.imap.context import Context, completed, refuse
from mailstack.access.imap.mailboxes import status_items
from mailstack.access.imap.patterns import INBOX, Pattern, join
from mailstack.access.imap.tree import NO_SELECT, Tree, superiors, tree_of
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.extension_responses import Metadata, MyRightsResponse
from mailstack.wire.imap.responses import AnyResponse, ListResponse, LsubResponse, Response, StatusResponse
from mailstack.wire.imap.rights import written

MOST_PATTERNS = 100  # in one LIST
MANY = 2000  # names times patterns: more are matched in a thread


async def list_mailboxes(context: Context, command: c.List) -> AnyResponse:
    """LIST."""
    if not command.extended and command.patterns == ("",):  # the hierarchy delimiter is asked for
        return ListResponse("", (NO_SELECT,)), completed(command, "LIST")
    tree = await tree_of(context)
    said: list[Response] = []
    if len(command.patterns) > MOST_PATTERNS:
        return refuse(command, "Too many patterns", "LIMIT")
    if len(tree.boxes) * len(command.patterns) < MANY:
        chosen = _chosen(tree, command)
    else:
        chosen = await context.services.work.compute(_chosen, tree, command)
    for name, child_info in chosen:
        said.append(_line(tree, command, name, child_info))
        box = tree.boxes.get(name)
        if command.status and box is not None and box.selectable and "r" in box.rights:
            said.append(StatusResponse(name, await status_items(context, box, command.status)))
        if "MYRIGHTS" in command.returns and box is not None:  # RFC 8440
            said.append(MyRightsResponse(name, written(box.rights)))
        if command.metadata and box is not None and "r" in box.rights:  # RFC 9590
            kept = await context.store.metadata(context.user_id, name)
            said.append(Metadata(name, metadata.chosen(kept, command.metadata)))
    return (*said, completed(command, "LIST"))


def _line(tree: Tree, command: c.List, name: str, child_info: tuple[str, ...]) -> ListResponse:
    attributes = tree.attributes(name)
    if name in tree.subscribed and "SUBSCRIBED" in command.selection | command.returns:
        attributes = (r"\Subscribed", *attributes)
    return ListResponse(name, attributes, child_info=child_info)


def _chosen(tree: Tree, command: c.List) -> list[tuple[str, tuple[str, ...]]]:
    """The names to list, each with the options that some name below it meets (RFC 5258 section 3.5)."""
    patterns = [Pattern(join(command.reference, text)) for text in command.patterns]
    criteria = command.selection - {
        "RECURSIVEMATCH",
        "REMOTE",
    }  # RFC 5258 section 3.1: nothing of ours is remote
    meeting = _meeting(tree, criteria)
    listed = {name for name in meeting if _matches(patterns, name)}
    above = {name for each in meeting for name in superiors(each)}
    # a parent is worth a line of its own only for what is not listed itself
    hidden = {name for each in meeting - listed for name in superiors(each)}
    extra = {name for name in hidden - meeting if _matches(patterns, name)}
    if "RECURSIVEMATCH" in command.selection:
        info = tuple(sorted(criteria))
        return [(name, info if name in above else ()) for name in in_order(listed | extra)]
    if criteria:
        extra = set()
    return [(name, ()) for name in in_order(listed | extra)]


def _meeting(tree: Tree, criteria: frozenset[str]) -> set[str]:
    names = set(tree.subscribed if "SUBSCRIBED" in criteria else tree.boxes)
    if "SPECIAL-USE" in criteria:
        names = {name for name in names if name in tree.boxes and tree.boxes[name].special_use}
    return names


def _matches(patterns: Iterable[Pattern], name: str) -> bool:
    return any(pattern.matches(name) for pattern in patterns)


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted, INBOX first."""
    return sorted(names, key=lambda name: (name != INBOX, name))


async def list_subscribed(context: Context, command: c.Lsub) -> AnyResponse:
    r"""LSUB: subscribed names; a parent that ``%`` matches in place of a name below it is \Noselect."""
    tree = await tree_of(context)
    pattern = Pattern(join(command.reference, command.pattern))
    listed = {name for name in tree.subscribed if pattern.matches(name)}
    hidden = tree.subscribed - listed if "%" in command.pattern else frozenset()  # RFC 3501 section 6.3.9
    extra = {name for each in hidden for name in superiors(each) if pattern.matches(name)} - listed
    said = [
        LsubResponse(name, _lsub_attributes(tree, name, name in extra)) for name in in_order(listed | extra)
    ]
    return (*said, completed(command, "LSUB"))


def _lsub_attributes(tree: Tree, name: str, is_parent: bool) -> tuple[str, ...]:
    box = tree.boxes.get(name)
    return (NO_SELECT,) if is_parent or box is None or not box.selectable else ()
