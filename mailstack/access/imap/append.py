"""APPEND, streamed (RFC 3501 section 6.3.11); several messages too (RFC 3502); APPENDUID (RFC 4315)."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailstack.access.imap.context import Context, Unsupported, completed, refuse
from mailstack.mail.message import Message, Stored
from mailstack.store import New, OverQuota
from mailstack.wire.imap import commands as c
from mailstack.wire.imap.responses import AnyResponse, Continuation, append_uid
from mailstack.work import Work

IN_MEMORY = 64 * 1024  # octets that stay in memory
MOST_MESSAGES = 1000  # of one command


@dataclass(slots=True)
class _Incoming:
    """One message that is arriving."""

    command: c.Append
    data: list[bytes] = field(default_factory=list)
    file: Any = None  # open for writing
    path: Path | None = None
    size: int = 0


class Appending:
    """The messages of one APPEND, until it ends."""

    __slots__ = ("_context", "_held", "_messages")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._held = 0  # octets in memory
        self._messages: list[_Incoming] = []

    @property
    def _work(self) -> Work:
        return self._context.services.work

    async def begin(self, command: c.Append) -> AnyResponse:
        """Take the message or refuse it before it is sent."""
        if not command.following:
            await self.drop()
            await self._context.store.status(self._context.user_id, command.mailbox)  # raises NoSuchMailbox
        refused = await self._refusal(command)
        if refused is not None:
            await self.drop()
            return refused
        if self._messages and self._messages[-1].file is not None:
            await self._work.files(_flush, self._messages[-1:])  # one open file at a time
        self._messages.append(_Incoming(command))
        return Continuation()

    async def _refusal(self, command: c.Append) -> AnyResponse | None:
        if command.catenated or command.replaces is not None or command.utf8:
            raise Unsupported("CATENATE, REPLACE and UTF8")
        most = self._context.services.config.max_message_octets
        if command.size > most:
            return refuse(command, f"A message has at most {most} octets", "TOOBIG")
        if not command.size:
            return refuse(command, "The message is empty", "CANNOT")
        if len(self._messages) >= MOST_MESSAGES:
            return refuse(command, "Too many messages in one command", "LIMIT")
        octets, messages = self._context.quota
        if octets is None and messages is None:
            return None
        usage = await self._context.store.usage(self._context.user_id)
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
        message = self._messages[-1]
        message.data.append(command.data)
        message.size += len(command.data)
        self._held += len(command.data)
        if self._held >= IN_MEMORY:
            data, message.data = message.data, []
            self._held -= sum(map(len, data))
            try:
                await self._work.files(_spool, message, data, self._context.services.config.spool)
            except OSError:
                await self.drop()
                return refuse(command, "No room for the message now; try again later", "UNAVAILABLE")
        return None

    async def end(self, command: c.AppendEnd) -> AnyResponse:
        """Store all messages, or none; durable before the OK."""
        try:
            if not self._messages:
                return refuse(command, "No APPEND is going on")
            await self._work.files(_flush, self._messages)
            mailbox = self._messages[0].command.mailbox
            new = [_new(message) for message in self._messages]
            done = await self._context.store.append(self._context.user_id, mailbox, new, self._context.quota)
        finally:
            await self.drop()
        return completed(command, "APPEND", append_uid(done.uidvalidity, done.uids))

    async def drop(self) -> None:
        """Forget what has come so far."""
        messages, self._messages, self._held = self._messages, [], 0
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
