"""Commands about mailboxes: SELECT, CREATE, LIST, STATUS, quota and their kin."""

from __future__ import annotations

import re
from collections.abc import Callable

from mailstack.wire.imap import commands as c
from mailstack.wire.imap.grammar.cursor import BadSyntax, Cursor
from mailstack.wire.imap.grammar.metadata import MOST_ENTRIES, entry

LARGEST = 2**63 - 1  # modseq, quota limits (RFC 7162 section 7, RFC 9208 section 7)
_STATUS_ITEMS = frozenset(
    {"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE", "HIGHESTMODSEQ"}
    | {"DELETED", "DELETED-STORAGE"}  # RFC 9208 section 4.1.4
    | {"MAILBOXID", "APPENDLIMIT"}  # RFC 8474 section 4.3, RFC 7889 section 3.1
)
_SELECTIONS = frozenset({"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"})
_RETURNS = frozenset({"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"})  # the last: RFC 8440
_SPECIAL_USE = re.compile(r"\\[A-Za-z]{1,40}")


def named(command: Callable[[str, str], c.Command]) -> Callable[[str, Cursor], c.Command]:
    """The reader of a command with one mailbox name."""

    def read(tag: str, cursor: Cursor) -> c.Command:
        cursor.expect(" ")
        return command(tag, cursor.mailbox())

    return read


def select(tag: str, cursor: Cursor) -> c.Command:
    """SELECT (RFC 3501 section 6.3.1)."""
    return _select(tag, cursor, read_only=False)


def examine(tag: str, cursor: Cursor) -> c.Command:
    """EXAMINE (RFC 3501 section 6.3.2)."""
    return _select(tag, cursor, read_only=True)


def _select(tag: str, cursor: Cursor, *, read_only: bool) -> c.Command:
    cursor.expect(" ")
    mailbox = cursor.mailbox()
    if not cursor.skip(" ") or cursor.at == len(cursor.text):
        return c.Select(tag, mailbox, read_only)
    condstore, resync = False, None
    for parameter in cursor.listed(lambda: _select_parameter(cursor), most=2):
        if parameter is None:
            condstore = True
        else:
            resync = parameter
    return c.Select(tag, mailbox, read_only, condstore, resync)


def _select_parameter(cursor: Cursor) -> c.Resync | None:
    """CONDSTORE as None, or QRESYNC (RFC 7162 sections 3.1.8 and 3.2.5)."""
    name = cursor.keyword("a parameter")
    if name == "CONDSTORE":
        return None
    if name != "QRESYNC":
        raise BadSyntax("unknown parameter")
    cursor.expect(" (")
    uidvalidity = cursor.number()
    cursor.expect(" ")
    modseq = cursor.number(LARGEST)
    uids = matches = None
    if cursor.skip(" ") and not cursor.peek("("):
        uids = cursor.sequence_set()
        cursor.skip(" ")
    if cursor.skip("("):
        numbers = cursor.sequence_set()
        cursor.expect(" ")
        matches = (numbers, cursor.sequence_set())
        cursor.expect(")")
    cursor.expect(")")
    for known in (uids, *(matches or ())):
        if known is not None and known.open_ended:  # RFC 7162 section 7
            raise BadSyntax("* among what is known")
    return c.Resync(uidvalidity, modseq, uids, matches)


def create(tag: str, cursor: Cursor) -> c.Command:
    r"""CREATE, with `(USE (\Sent))` of RFC 6154 section 3."""
    cursor.expect(" ")
    mailbox = cursor.mailbox()
    if not cursor.skip(" ") or cursor.at == len(cursor.text):
        return c.Create(tag, mailbox)
    cursor.expect("(")
    if cursor.keyword("USE") != "USE":
        raise BadSyntax("unknown parameter")
    cursor.expect(" ")
    uses = cursor.listed(lambda: cursor.word(_SPECIAL_USE, "a special use"), empty=True, most=20)
    cursor.expect(")")
    return c.Create(tag, mailbox, tuple(uses))


def rename(tag: str, cursor: Cursor) -> c.Command:
    """RENAME (RFC 3501 section 6.3.5)."""
    cursor.expect(" ")
    source = cursor.mailbox()
    cursor.expect(" ")
    return c.Rename(tag, source, cursor.mailbox())


def lsub(tag: str, cursor: Cursor) -> c.Command:
    """LSUB (RFC 3501 section 6.3.9)."""
    cursor.expect(" ")
    reference = cursor.mailbox()
    cursor.expect(" ")
    return c.Lsub(tag, reference, cursor.pattern())


def list_(tag: str, cursor: Cursor) -> c.Command:
    """LIST (RFC 3501 section 6.3.8, RFC 5258 section 6)."""
    cursor.expect(" ")
    selection: frozenset[str] = frozenset()
    extended = cursor.peek("(")
    if extended:
        selection = frozenset(cursor.listed(lambda: _option(cursor, _SELECTIONS), empty=True))
        cursor.expect(" ")
        if "RECURSIVEMATCH" in selection and not selection - {"RECURSIVEMATCH", "REMOTE"}:
            raise BadSyntax("RECURSIVEMATCH needs another selection option")  # RFC 5258 section 3.1
    reference = cursor.mailbox()
    cursor.expect(" ")
    if cursor.peek("("):
        extended, patterns = True, cursor.listed(cursor.pattern)
    else:
        patterns = [cursor.pattern()]
    returns, status, metadata = _returns(cursor)
    extended = extended or returns is not None
    returns = returns or frozenset()
    return c.List(tag, reference, tuple(patterns), selection, returns, status, extended, metadata)


def _returns(cursor: Cursor) -> tuple[frozenset[str] | None, tuple[str, ...], tuple[str, ...]]:
    """RETURN options (None: no RETURN), items of STATUS (RFC 5819), entries of METADATA (RFC 9590)."""
    if not cursor.skip(" ") or cursor.at == len(cursor.text):
        return None, (), ()
    if cursor.keyword("RETURN") != "RETURN":
        raise BadSyntax("expected RETURN")
    cursor.expect(" ")
    status: list[str] = []
    metadata: list[str] = []

    def option() -> str:
        name = _option(cursor, _RETURNS | {"STATUS", "METADATA"})
        if name == "METADATA":
            cursor.expect(" ")
            metadata.extend(cursor.listed(lambda: entry(cursor), most=MOST_ENTRIES))
        if name == "STATUS":
            cursor.expect(" ")
            status.extend(_status_items(cursor))
        return name

    names = frozenset(cursor.listed(option, empty=True))
    return names - {"STATUS", "METADATA"}, tuple(dict.fromkeys(status)), tuple(dict.fromkeys(metadata))


def _option(cursor: Cursor, known: frozenset[str]) -> str:
    name = cursor.keyword("an option")
    if name not in known:
        raise BadSyntax("unknown option")
    return name


def status(tag: str, cursor: Cursor) -> c.Command:
    """STATUS (RFC 3501 section 6.3.10, RFC 8438)."""
    cursor.expect(" ")
    mailbox = cursor.mailbox()
    cursor.expect(" ")
    return c.Status(tag, mailbox, _status_items(cursor))


def _status_items(cursor: Cursor) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cursor.listed(lambda: _option(cursor, _STATUS_ITEMS), most=30)))


def get_quota(tag: str, cursor: Cursor) -> c.Command:
    """GETQUOTA (RFC 9208 section 4.1.1)."""
    cursor.expect(" ")
    return c.GetQuota(tag, cursor.words())


def set_quota(tag: str, cursor: Cursor) -> c.Command:
    """SETQUOTA (RFC 9208 section 4.1.3)."""
    cursor.expect(" ")
    root = cursor.words()
    cursor.expect(" ")

    def limit() -> tuple[str, int]:
        name = cursor.keyword("a resource")
        cursor.expect(" ")
        return name, cursor.number(LARGEST)

    return c.SetQuota(tag, root, tuple(cursor.listed(limit, empty=True, most=30)))
