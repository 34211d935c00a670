"""NOTIFY (RFC 5465 section 8), and the names of sets of mailboxes, which ESEARCH has too."""

from __future__ import annotations

from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.commands import Command, Item
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.fetch import fetch_item

MOST_GROUPS = 100  # event groups of one NOTIFY, or mailbox filters of one ESEARCH
_ANY = frozenset({"inboxes", "personal", "subscribed"})
_WITH_NAMES = frozenset({"subtree", "mailboxes"})
_SELECTED = frozenset({"selected", "selected-delayed"})
_OF_MESSAGES = frozenset({"messagenew", "messageexpunge", "flagchange", "annotationchange"})
_EVENTS = _OF_MESSAGES | {
    "mailboxname", "subscriptionchange", "mailboxmetadatachange", "servermetadatachange"
}  # fmt: skip


def mailbox_filters(cursor: Cursor, *more: str) -> tuple[x.MailboxFilter, ...]:
    """Filters one after the other up to a closing parenthesis; `more`: kinds that are known here besides."""
    found = [_filter(cursor, frozenset(more))]
    while cursor.skip(" "):
        if len(found) >= MOST_GROUPS:
            raise BadSyntax("too many mailbox filters")
        found.append(_filter(cursor, frozenset(more)))
    return tuple(found)


def _filter(cursor: Cursor, more: frozenset[str]) -> x.MailboxFilter:
    kind = cursor.atom("a mailbox filter").lower()
    if kind not in _ANY | _WITH_NAMES | more:
        raise BadSyntax("unknown mailbox filter")
    if kind not in _WITH_NAMES | {"subtree-one"}:
        return x.MailboxFilter(kind)
    cursor.expect(" ")
    names = cursor.listed(cursor.mailbox) if cursor.peek("(") else [cursor.mailbox()]
    return x.MailboxFilter(kind, tuple(names))


def notify(tag: str, cursor: Cursor) -> Command:
    """NOTIFY."""
    cursor.expect(" ")
    verb = cursor.keyword("SET or NONE")
    if verb == "NONE":
        return x.Notify(tag, ())
    if verb != "SET":
        raise BadSyntax("expected SET or NONE")
    cursor.expect(" ")
    status = not cursor.peek("(")
    if status:
        if cursor.keyword("STATUS") != "STATUS":
            raise BadSyntax("expected STATUS")
        cursor.expect(" ")
    groups = [_group(cursor)]
    while cursor.skip(" ") and cursor.at < len(cursor.text):
        if len(groups) >= MOST_GROUPS:
            raise BadSyntax("too many event groups")
        groups.append(_group(cursor))
    if sum(group.filter.kind in _SELECTED for group in groups) > 1:
        raise BadSyntax("SELECTED twice")
    return x.Notify(tag, tuple(groups), status)


def _group(cursor: Cursor) -> x.EventGroup:
    cursor.expect("(")
    chosen = _filter(cursor, _SELECTED)
    cursor.expect(" ")
    items: list[Item] = []
    selected = chosen.kind in _SELECTED

    def event() -> str:
        name = cursor.atom("an event").lower()
        if name not in _EVENTS:
            raise BadSyntax("unknown event", BAD_EVENT, "NO")  # RFC 5465 section 5
        if name == "messagenew" and cursor.text.startswith(" (", cursor.at):
            if not selected:
                raise BadSyntax("FETCH items are for the selected mailbox")
            cursor.skip(" ")
            items.extend(cursor.listed(lambda: fetch_item(cursor), most=100))
        return name

    if cursor.peek("("):
        events = frozenset(cursor.listed(event, most=20))
    elif cursor.keyword("events or NONE") == "NONE":
        events = frozenset()
    else:
        raise BadSyntax("expected events or NONE")
    cursor.expect(")")
    _check(events, selected=selected)
    return x.EventGroup(chosen, events, tuple(dict.fromkeys(items)))


BAD_EVENT = (
    "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange "
    "ServerMetadataChange)"
)


def _check(events: frozenset[str], *, selected: bool) -> None:
    """The rules of RFC 5465 sections 5 and 8."""
    if ("messagenew" in events) != ("messageexpunge" in events):
        raise BadSyntax("MessageNew and MessageExpunge come together")
    if events & {"flagchange", "annotationchange"} and "messagenew" not in events:
        raise BadSyntax("FlagChange needs MessageNew and MessageExpunge")
    if selected and events - _OF_MESSAGES:
        raise BadSyntax("only events of messages for the selected mailbox")


def cancel_update(tag: str, cursor: Cursor) -> Command:
    """CANCELUPDATE "tag" ... (RFC 5267 section 4.3.5)."""
    tags = []
    while cursor.skip(" ") and cursor.at < len(cursor.text):
        tags.append(cursor.string().decode("latin-1"))
    if not tags:
        raise BadSyntax("expected a tag")
    return x.CancelUpdate(tag, tuple(tags))
