"""APPEND, streamed (RFC 3501 section 6.3.11), with MULTIAPPEND, APPENDUID, CATENATE, BINARY and REPLACE.

RFC 3502, RFC 4315, RFC 4469, RFC 3516 section 4.4, RFC 8508.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailstack.access.imap import urls
from mailstack.access.imap.context import Context, completed, refuse
from mailstack.access.imap.numbers import NoSuchMessage
from mailstack.access.imap.sharing import need
from mailstack.access.imap.tree import normalized
from mailstack.mail.eight_bit import Header
from mailstack.mail.message import Message, Stored
from mailstack.store.mailbox import Mailbox
from mailstack.store.quotas import Account
from mailstack.store.values import Expunged, New, OverQuota, StoreError
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap.codes import UNKNOWN_CTE, bad_url, message_limit
from mailstack.wire.imap.responses import AnyResponse, Continuation, Tagged, Untagged, append_uid
from mailstack.work import Work

IN_MEMORY = 64 * 1024  # octets that stay in memory
MOST_MESSAGES = 1000  # of one command


@dataclass(slots=True)
class _Incoming:
    """One message that is arriving."""

    command: c.Append
    header: Header | None = None  # while it must be looked at
    data: list[bytes] = field(default_factory=list)
    file: Any = None  # open for writing
    path: Path | None = None
    size: int = 0


class Appending:
    """The messages of one APPEND, until it ends."""

    __slots__ = ("_account", "_context", "_held", "_messages", "_replaces")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._account: Account | None = None  # of another user, whose mailbox it is
        self._held = 0  # octets in memory
        self._messages: list[_Incoming] = []
        self._replaces: tuple[Mailbox, int] | None = None  # what REPLACE removes

    @property
    def _work(self) -> Work:
        return self._context.services.work

    async def begin(self, command: c.Append) -> AnyResponse:
        """Take the message or refuse it before it is sent."""
        if not command.following:
            await self.drop()
            await self._look_up(command.mailbox)
        refused = await self._refusal(command)
        if refused is None and command.replaces is not None:
            refused = self._replaced(command, command.replaces)
        if refused is not None:
            await self.drop()
            return refused
        if self._messages and self._messages[-1].file is not None:
            await self._work.files(_flush, self._messages[-1:])  # one open file at a time
        config = self._context.services.config
        looks = config.refuse_8bit_headers and not self._context.utf8
        self._messages.append(_Incoming(command, Header() if looks else None))
        return Continuation()

    async def _look_up(self, mailbox: str) -> None:
        """Raise NoSuchMailbox, NoPermission. What counts for a mailbox of another user is known then.

        One of the user's own that the last APPEND found is not looked up again: `end` does that.
        """
        context = self._context
        if context.appended_to != mailbox:
            self._account = await context.store.appended(context.user_id, mailbox)

    async def _refusal(self, command: c.Append) -> AnyResponse | None:
        most = self._context.services.config.max_message_octets
        if command.size > most:
            return refuse(command, f"A message has at most {most} octets", "TOOBIG")
        if not command.size and not command.catenated:
            return refuse(command, "The message is empty", "CANNOT")
        if len(self._messages) >= MOST_MESSAGES:
            return refuse(command, "Too many messages in one command", message_limit(MOST_MESSAGES))
        context, account = self._context, self._account
        octets, messages = context.quota if account is None else account.quota
        if (octets is None and messages is None) or command.replaces is not None:
            return None  # RFC 8508 section 3.4: what REPLACE frees counts, and is known in the end
        usage = await context.store.usage(context.user_id) if account is None else account.usage
        coming = sum(each.command.size for each in self._messages) + command.size
        if octets is not None and usage.octets + coming > octets:
            raise OverQuota
        if messages is not None and usage.messages + len(self._messages) + 1 > messages:
            raise OverQuota
        return None

    async def take(self, command: c.AppendChunk) -> AnyResponse | None:
        """Keep the next octets; from IN_MEMORY on in a file."""
        if not self._messages:
            return refuse(command, "No APPEND is going on")
        if self._messages[-1].command.binary and b"\0" in command.data:  # RFC 3516 section 4.4
            await self.drop()
            return refuse(command, "A message cannot hold NULs: use a transfer encoding", UNKNOWN_CTE)
        return await self._keep(command, command.data)

    async def _keep(self, command: c.Command, data: bytes) -> AnyResponse | None:
        message = self._messages[-1]
        if message.header is not None and message.header.has_8bit(data):  # RFC 6855 section 4
            await self.drop()
            return refuse(command, "A header in UTF-8 needs ENABLE UTF8=ACCEPT", "CANNOT")
        message.data.append(data)
        message.size += len(data)
        self._held += len(data)
        if self._held >= IN_MEMORY:
            some, message.data = message.data, []
            self._held -= sum(map(len, some))
            try:
                await self._work.files(_spool, message, some, self._context.services.config.spool)
            except OSError:
                await self.drop()
                return refuse(command, "No room for the message now; try again later", "UNAVAILABLE")
        return None

    async def text(self, command: x.CatenateText) -> AnyResponse:
        """The next part of CATENATE comes from the client (RFC 4469 section 3)."""
        if not self._messages:
            return refuse(command, "No APPEND is going on")
        return await self._too_large(command, command.size) or Continuation()

    async def url(self, command: x.CatenateUrl) -> AnyResponse | None:
        """The next part of CATENATE is what a URL names (RFC 4469 section 3)."""
        if not self._messages:
            return refuse(command, "No APPEND is going on")
        try:
            async with urls.opened(self._context, command.url) as named:
                refused = await self._too_large(command, named.size)
                start = 0
                while refused is None and start < named.size:
                    data = await named.read(start, urls.CHUNK)
                    start += len(data)
                    refused = await self._keep(command, data)
        except (urls.NotThere, StoreError):
            await self.drop()
            return refuse(command, "The URL names nothing here", bad_url(command.url))
        return refused

    async def _too_large(self, command: c.Command, octets: int) -> AnyResponse | None:
        most = self._context.services.config.max_message_octets
        if self._messages[-1].size + octets <= most:
            return None
        await self.drop()
        return refuse(command, f"A message has at most {most} octets", "TOOBIG")

    def _replaced(self, command: c.Append, replaces: c.Replaced) -> AnyResponse | None:
        """Remember which message is to go; the refusal if that cannot be."""
        selected = self._context.selected
        if selected.read_only:
            return refuse(command, "The mailbox is read-only", "READ-ONLY")
        need(self._context, "te")
        view, number = selected.view, replaces.number
        if not len(view):
            return refuse(command, "No such message", "NONEXISTENT")
        if not number:
            uid = view.uid(len(view))
        elif replaces.uid:
            uid = number
        else:
            if number > len(view):
                raise NoSuchMessage
            uid = view.uid(number)
        if view.sequence(uid) is None:
            return refuse(command, "No such message", "NONEXISTENT")
        if selected.mailbox.entry(uid) is None:
            raise Expunged
        self._replaces = selected.mailbox, uid
        return None

    async def end(self, command: c.AppendEnd) -> AnyResponse:
        """Store all messages, or none; durable before the OK."""
        try:
            if not self._messages:
                return refuse(command, "No APPEND is going on")
            if not all(message.size for message in self._messages):
                return refuse(command, "The message is empty", "CANNOT")
            if any(message.file is not None for message in self._messages):
                await self._work.files(_flush, self._messages)
            mailbox = self._messages[0].command.mailbox
            new = [_new(message) for message in self._messages]
            context, replaces = self._context, self._replaces
            done = await context.store.append(context.user_id, mailbox, new, context.quota, replaces)
            context.appended_to = mailbox if self._account is None else None
        except BaseException:
            self._context.appended_to = None
            raise
        finally:
            await self.drop()
        code = append_uid(done.uidvalidity, done.uids) if done.readable else None
        said = await normalized(context, mailbox)
        if replaces is None:
            return *said, completed(command, "APPEND", code)
        # RFC 8508 section 4.3: the UID is told before the EXPUNGE, which comes with the other updates
        ready = Untagged("OK", "Replacement message ready", code)
        return *said, ready, Tagged(command.tag, "OK", "REPLACE completed")

    async def drop(self) -> None:
        """Forget what has come so far."""
        messages, self._messages, self._held = self._messages, [], 0
        self._replaces = None
        if any(message.file for message in messages):
            await self._work.files(_remove, messages)


def _new(message: _Incoming) -> New:
    command = message.command
    if message.path is None:
        text = Message((b"".join(message.data),))
    else:
        text = Message((Stored(message.path, 0, message.size),))
    if command.date is None:
        return New(text, command.flags)
    return New(text, command.flags, command.date.seconds, command.date.zone)


# In a file thread.


def _spool(message: _Incoming, data: list[bytes], spool: Path | None) -> None:
    if message.file is None:
        number, name = tempfile.mkstemp(prefix="mailstack-append-", dir=spool)
        message.file, message.path = os.fdopen(number, "wb"), Path(name)
    message.file.writelines(data)


def _flush(messages: list[_Incoming]) -> None:
    for message in messages:
        if message.file is not None and not message.file.closed:
            message.file.writelines(message.data)
            message.data = []
            message.file.close()


def _remove(messages: list[_Incoming]) -> None:
    for message in messages:
        if message.file is not None and message.path is not None:
            message.file.close()
            message.path.unlink(missing_ok=True)
