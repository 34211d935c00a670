"""What is noted of mailboxes and of the server: GETMETADATA, SETMETADATA (RFC 5464)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mailstack.access.imap.context import Context, completed, refuse
from mailstack.store.values import TooLarge, TooMany
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.codes import METADATA_TOO_MANY, metadata_long_entries, metadata_max_size
from mailstack.wire.imap.extension_responses import Metadata
from mailstack.wire.imap.responses import AnyResponse, Response

Values = tuple[tuple[str, bytes | None], ...]


async def get_metadata(context: Context, command: x.GetMetadata) -> AnyResponse:
    """GETMETADATA: entries that have no value are NIL if they are asked for by name."""
    kept = await context.store.metadata(context.user_id, command.mailbox or None)
    found = chosen(kept, command.entries, command.depth)
    most = command.max_size
    longest = max((len(value) for _, value in found if value is not None), default=0)
    code = None
    if most is not None and longest > most:  # RFC 5464 section 4.2.1
        code = metadata_long_entries(longest)
        found = tuple(pair for pair in found if len(pair[1] or b"") <= most)
    said: tuple[Response, ...] = (Metadata(command.mailbox, found),) if found else ()
    return (*said, completed(command, "GETMETADATA", code))


def chosen(kept: Mapping[str, bytes], entries: Iterable[str], depth: int | None = 0) -> Values:
    """The entries asked for, and those below them down to `depth` (RFC 5464 section 4.2.2)."""
    found: dict[str, bytes | None] = {}
    for entry in entries:
        found.setdefault(entry, kept.get(entry))
        if depth == 0:
            continue
        for name, value in kept.items():
            below = name.removeprefix(entry + "/") if name.startswith(entry + "/") else None
            if below is not None and (depth is None or "/" not in below):
                found[name] = value
    if depth != 0:
        return tuple((name, value) for name, value in found.items() if value is not None)
    return tuple(found.items())


async def set_metadata(context: Context, command: x.SetMetadata) -> AnyResponse:
    """SETMETADATA: all entries or none."""
    try:
        await context.store.set_metadata(context.user_id, command.mailbox or None, dict(command.values))
    except TooLarge as error:
        return refuse(command, "The value is too large", metadata_max_size(int(error.args[1])))
    except TooMany:
        return refuse(command, "Too many annotations", METADATA_TOO_MANY)
    return completed(command, "SETMETADATA")
