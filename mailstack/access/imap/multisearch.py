"""ESEARCH: one search of many mailboxes (RFC 7377)."""

from __future__ import annotations

from dataclasses import replace

from mailstack.access.imap.context import Context, Selected, completed, refuse
from mailstack.access.imap.contexts import begin, reuses_tag
from mailstack.access.imap.fuzzy import misuses_relevancy, relevancy
from mailstack.access.imap.groups import Group, readable
from mailstack.access.imap.limits import newest, say_limit, searched
from mailstack.access.imap.listing import in_order
from mailstack.access.imap.saved import keep
from mailstack.access.imap.search import asks_modseq, check_returns, find, highest
from mailstack.access.imap.tree import tree_of
from mailstack.store.news import Row, uids_of
from mailstack.store.values import NoSuchMailbox
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import keys as k
from mailstack.wire.imap.codes import no_update
from mailstack.wire.imap.responses import AnyResponse, ESearch, Tagged, Untagged
from mailstack.wire.imap.sequence import SequenceSet

MOST_MAILBOXES = 1000  # in one search
_SELECTED = (x.MailboxFilter("selected"),)


async def search(context: Context, command: x.MultiSearch) -> AnyResponse:
    """One ESEARCH response for each mailbox in which something is found (RFC 7377 section 2.1)."""
    sources = command.sources or _SELECTED
    check_returns(command.returns)
    if (misused := misuses_relevancy(command)) is not None:
        return misused
    here = any(source.kind == "selected" for source in sources)
    if (here or "UPDATE" in command.returns) and context.current is None:
        return Tagged(command.tag, "BAD", "No mailbox is selected")
    only_here = all(source.kind == "selected" for source in sources)
    if not only_here and ("SAVE" in command.returns or _numbers(command.key)):
        return Tagged(command.tag, "BAD", "That is only for the selected mailbox")
    tree = await tree_of(context)
    inbox_only = context.services.inbox_only
    names = readable(tree, [Group(source, inbox_only=inbox_only) for source in sources])
    if len(names) > MOST_MAILBOXES:
        return refuse(command, "Too many mailboxes", "LIMIT")
    current = context.current
    if current is not None and (refused := reuses_tag(current, command)) is not None:
        return refused
    here = here or any(current is not None and tree.boxes[name].id == current.mailbox.id for name in names)
    if here:
        updates = await begin(context, context.selected, command)
        found = await _search(context, context.selected, command)
        if updates is not None:
            await updates.end(context, found, _source(context.selected))
    elif "UPDATE" in command.returns:  # RFC 7377 section 2.2: only the selected mailbox
        await context.say(Untagged("NO", "The selected mailbox is not among them", no_update(command.tag)))
    for name in in_order(names):
        if not (here and current is not None and tree.boxes[name].id == current.mailbox.id):
            await _search_closed(context, command, name)
    return completed(command, "ESEARCH")


async def _search_closed(context: Context, command: x.MultiSearch, name: str) -> None:
    """A mailbox that is not selected stays so; one that is gone meanwhile is passed over."""
    try:
        mailbox = await context.store.open(context.user_id, name)
    except NoSuchMailbox:
        return
    try:
        view = mailbox.view(read_only=True)
    except BaseException:
        mailbox.close()
        raise
    opened = Selected(mailbox, view, read_only=True, seconds=context.services.clock.seconds, name=name)
    try:
        await _search(context, opened, command)
    finally:
        opened.close()


async def _search(context: Context, selected: Selected, command: x.MultiSearch) -> list[int]:
    """Search one mailbox and say what is found; the UIDs."""
    scores: dict[int, int] = {}
    chosen, last = newest(context, searched(context, selected, command.key))
    if last is not None:
        await say_limit(context, Tagged(command.tag, "NO", ""), last)
    among = None if last is None else chosen[::-1]
    found = await find(context, selected, command.key, among, scores)
    uids = uids_of(found)
    if "SAVE" in command.returns:
        keep(selected, uids, command.returns, command.partial)
    if uids and command.returns != {"SAVE"}:
        response = _response(selected, command, found, uids)
        await context.say(replace(response, relevancy=relevancy(command, uids, scores)))
    await context.services.pause()
    return uids


def _source(selected: Selected) -> tuple[str, int]:
    return selected.name or selected.mailbox.name, selected.mailbox.uidvalidity


def _response(selected: Selected, command: x.MultiSearch, found: list[Row], uids: list[int]) -> ESearch:
    wanted, partial = command.returns, command.partial
    return ESearch(
        command.tag,
        True,
        minimum=uids[0] if "MIN" in wanted else None,
        maximum=uids[-1] if "MAX" in wanted else None,
        count=len(uids) if "COUNT" in wanted else None,
        all=SequenceSet.of(uids) if "ALL" in wanted else None,
        modseq=highest(found) if asks_modseq(command.key) else None,
        partial=None if partial is None else (partial, SequenceSet.of(uids[partial.slice(len(uids))])),
        source=_source(selected),
    )


def _numbers(key: k.Key) -> bool:
    """Whether it names messages by sequence number, which only the selected mailbox has; or by `$`."""
    match key:
        case k.Numbers():
            return True
        case k.Uids():
            return key.set.saved
        case k.And():
            return any(map(_numbers, key.keys))
        case k.Or():
            return _numbers(key.left) or _numbers(key.right)
        case k.Not() | k.Fuzzy():
            return _numbers(key.key)
    return False
