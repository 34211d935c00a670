"""The reception of mail by SMTP, shared by submission and relay: one server, asked different questions.

Theory of operation. `SmtpRole` answers a session's events and keeps the transaction: its envelope, and its
content in the spool. What differs between those who receive is in five questions, which they override:
`hello` (what is offered), `auth`, `mail`, `rcpt` (may they), and `message` (what to add, what is wrong with
it). Whoever says no raises `Refused`. When the content is whole, the message with its trace field goes to
`accept`, and only what that answers lets the client be told 250 (RFC 5321 section 6.1).
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import LOCAL_ERROR, Refused, Replies, Reply
from mailstack.net import checks, replies, trace
from mailstack.net.peer import Peer
from mailstack.net.record import Record
from mailstack.net.spool import Content, HeaderTooLarge
from mailstack.net.transaction import Limits, Reception, Transaction, path_of
from mailstack.wire.smtp import events
from mailstack.wire.smtp.replies import BARE_LINE_END

_log = Logger(namespace="mailstack.smtp")

_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SmtpRole:
    """Answers one SMTP client. Subclasses override the questions."""

    protocol = "ESMTP"  # in the greeting and in Received
    service = "smtp"  # what the checks of the policy are told

    def __init__(
        self, limits: Limits, hostname: str, accepts: Accepts, reception: Reception, peer: Peer
    ) -> None:
        self.idle_limit = limits.idle_seconds
        self.hostname = hostname
        self.peer = peer
        self.reception = reception
        self.mechanism: str | None = None  # by which SASL mechanism
        self._limits = limits
        self._accepts = accepts
        self._helo: events.Helo | None = None
        self._transaction: Transaction | None = None
        self._errors = 0
        self._connection = checks.Connection(peer, self.service, hostname)
        self._inspection = reception.policy.inspection(self._connection) if reception.policy else None
        self.record = Record(peer, reception, self._inspection)

    @property
    def login(self) -> str | None:
        """Whom the client has proved to be."""
        return self.record.login

    @login.setter
    def login(self, login: str | None) -> None:
        self.record.login = login

    # The questions.

    def hello(self) -> Sequence[str]:
        """The extensions offered now: lines of the reply to EHLO."""
        return (
            "PIPELINING",  # RFC 2920
            f"SIZE {self.max_message_octets}",  # RFC 1870
            "8BITMIME",  # RFC 6152
            "BINARYMIME",  # RFC 3030
            "SMTPUTF8",  # RFC 6531
            "ENHANCEDSTATUSCODES",  # RFC 2034
            "CHUNKING",  # RFC 3030
            "DSN",  # RFC 3461
            f"LIMITS RCPTMAX={min(self._limits.max_recipients, 999_999)}",  # RFC 9422 section 4.2
            f"DELIVERBY {self._limits.min_deliver_by_seconds}".removesuffix(" 0"),  # RFC 2852
            *(("REQUIRETLS",) if self.peer.secure else ()),  # RFC 8689 section 2: only in TLS
        )

    async def auth(self, event: events.Auth | events.AuthLine) -> Reply:
        """The next step of a SASL exchange: 334, 235, or a refusal."""
        raise Refused(replies.NO_AUTH)

    async def mail(self, event: events.Mail) -> None:
        """May this client send from this reverse-path?"""

    async def rcpt(self, recipient: Recipient) -> Recipient:
        """May this client send to this recipient? The recipient to put into the envelope."""
        return recipient

    async def message(self, envelope: Envelope, header: bytes) -> tuple[bytes, bytes]:
        """Fields to add in front, and the header section to send on, as it was wherever that will do."""
        return b"", header

    def identity(self, address: Address) -> str | Address:
        """What two spellings of one recipient have in common. Elsewhere case may tell local-parts apart."""
        return address

    def full_house(self, transaction: Transaction) -> bool:
        """Whether the envelope has all the recipients that it may have."""
        return len(transaction.recipients) >= self._limits.max_recipients

    def accepted(self, transaction: Transaction, recipient: Recipient) -> None:
        """Put a recipient into the envelope."""
        transaction.recipients.setdefault(self.identity(recipient.address), recipient)

    async def taken(self, envelope: Envelope, content: Content) -> None:
        """The message is ours now; the client hears it next. `content` is as it came."""

    def conclude(self, envelope: Envelope, answers: dict[Address, Reply]) -> Reply | Replies:
        """What to say to the message, from what each recipient got; raise Refused to refuse it."""
        reply = replies.conclusion(envelope, answers)
        if not reply.accepted:
            raise Refused(reply)
        return reply

    @property
    def max_message_octets(self) -> int:
        """Of one message of this client."""
        return self._limits.max_message_octets

    def log_out(self) -> None:
        """Forget who the client has proved to be: TLS begins."""
        self.login = None

    # What the conversation calls.

    async def greet(self) -> Reply:
        """Our first words (RFC 5321 section 4.3.1)."""
        if self._inspection:
            try:
                await self._inspection.connected(self._now())
            except Refused as refused:
                greeting = replies.as_greeting(refused.reply)
                self.record.refused("connection", greeting)
                return greeting
        return Reply(220, "", f"{self.hostname} {self.protocol}")

    async def answer(self, event: events.Event) -> Reply | Replies | None:
        """The reply to `event`; None to content that is not complete."""
        kind = type(event)
        return _ALWAYS[kind] if kind in _ALWAYS else await _ANSWERS[kind](self, event)

    def timed_out(self) -> Reply:
        """The last words to a client that is silent (RFC 5321 section 3.8)."""
        return Reply(421, "4.4.2", f"{self.hostname} Idle for too long; closing")

    def dismissed(self) -> Reply:
        """The last words when the server stops (RFC 5321 section 3.8)."""
        return Reply(421, "4.3.2", f"{self.hostname} Shutting down; closing")

    def lost(self) -> None:
        """The client is gone."""
        self._forget()
        if self._inspection:
            self._inspection.closed()

    # One event each.

    async def _on_helo(self, event: events.Helo) -> Reply:
        self._forget()
        if self._inspection:
            try:
                await self._inspection.hello(self._now(helo=event))
            except Refused as refused:
                self.record.refused("hello", refused.reply, helo=event.domain)
                raise
        self._helo = event
        lines = [self.hostname, *self.hello()] if event.extended else [self.hostname]
        return Reply(250, "", "\n".join(lines))

    async def _on_auth(self, event: events.Auth | events.AuthLine) -> Reply:
        return await self.auth(event)

    async def _on_mail(self, event: events.Mail) -> Reply:
        try:
            if event.size is not None and event.size > self.max_message_octets:
                raise Refused(replies.TOO_BIG)
            if event.by and event.by.returned and event.by.seconds < self._limits.min_deliver_by_seconds:
                raise Refused(replies.TOO_SOON)
            await self.mail(event)
            self._forget()
            name, spool = self.reception.names.new(), self.reception.spool
            now = self.reception.clock.seconds()
            self._transaction = Transaction(event, name, spool.content(name), {}, now, spool.body)
            if self._inspection:
                await self._inspection.mail(self._now())
        except Refused as refused:
            self.record.refused("sender", refused.reply, sender=path_of(event.reverse_path))
            self._forget()
            raise
        return replies.SENDER_OK

    async def _on_rcpt(self, event: events.Rcpt) -> Reply:
        transaction = self._in_transaction()
        try:
            if self.full_house(transaction):
                raise Refused(replies.TOO_MANY_RECIPIENTS)
            recipient = await self.rcpt(event.recipient)
            if self._inspection:
                await self._inspection.recipient(self._now(recipient=recipient))
            self.accepted(transaction, recipient)
        except Refused as refused:
            if refused.reply is replies.TOO_MANY_RECIPIENTS and transaction.overflowed:
                raise  # a million of them are one line in the log
            transaction.overflowed |= refused.reply is replies.TOO_MANY_RECIPIENTS
            self.record.refused(
                "recipient",
                refused.reply,
                id=transaction.id,
                sender=path_of(transaction.mail.reverse_path),
                recipient=str(event.recipient.address),
            )
            raise
        return replies.RECIPIENT_OK

    async def _on_bdat(self, event: events.Bdat) -> None:
        self._ask_room(event.size)

    async def _on_chunk(self, event: events.Chunk) -> None:
        content = self._in_transaction().content
        self._ask_room(len(event.data))
        try:
            await content.write(event.data)
        except HeaderTooLarge as error:
            content.discard()
            raise Refused(replies.HEADER_TOO_BIG) from error
        except OSError as error:
            content.discard()
            raise Refused(self._disk_error(error)) from error

    async def _on_end_of_chunk(self, event: events.EndOfChunk) -> Reply:
        if event.refused:
            self.record.refused("message", event.refused, **self._in_transaction().described())
            self._forget()
            return event.refused
        return Reply(250, "2.0.0", f"{event.size} octets received")

    async def _on_end_of_data(self, event: events.EndOfData) -> Reply | Replies:
        transaction, self._transaction = self._in_transaction(), None
        try:
            if event.refused:
                raise Refused(event.refused)
            return await self._hand_over(transaction)
        except Refused as refused:
            self.record.refused_message(transaction, refused.reply)
            raise
        finally:
            transaction.discard()
            if self._inspection:
                self._inspection.reset()

    async def _on_start_tls(self, event: events.StartTls) -> Reply:
        self._forget()  # RFC 3207 section 4.2: what was said in clear is worth nothing
        self._helo = None
        self.log_out()
        return replies.READY_FOR_TLS

    async def _on_reset(self, event: events.Reset) -> Reply:
        self._forget()
        return replies.OK

    async def _on_quit(self, event: events.Quit) -> Reply:
        self._forget()
        return Reply(221, "2.0.0", f"{self.hostname} closing")

    async def _on_malformed(self, event: events.Malformed) -> Reply:
        self._errors += 1
        if self._errors > self._limits.max_errors:
            self.record.refused("connection", replies.TOO_MANY_ERRORS)
            return replies.TOO_MANY_ERRORS
        return event.reply

    # The message.

    async def _hand_over(self, transaction: Transaction) -> Reply | Replies:
        try:
            await transaction.content.finish()
        except OSError as error:
            raise Refused(self._disk_error(error)) from error
        envelope, message = await self._complete(transaction)
        if message is None:
            self.record.checked(envelope)
            self.record.dropped(envelope, transaction)
            return replies.queued(envelope)
        self.record.received(envelope, message, transaction.content.header(), self._helo, self.protocol)
        self.record.checked(envelope)
        answers = await self._accepts.accept(envelope, message)
        reply = self.conclude(envelope, answers)
        await self.taken(envelope, transaction.content)
        self.record.accepted(
            transaction, reply if isinstance(reply, Reply) else replies.conclusion(envelope, answers)
        )
        self._errors = 0
        return reply

    async def _complete(self, transaction: Transaction) -> tuple[Envelope, Message | None]:
        """Envelope and message with all that is to be added and changed; None where it is to be dropped."""
        helo = self._helo or events.Helo("unknown", False)
        envelope = transaction.envelope(self.login, trace.client(self.peer, helo.domain))
        content = transaction.content
        header = content.header()
        if not envelope.requiretls and trace.tls_optional(header):
            envelope = replace(envelope, tls_optional=True)
        if trace.hops(header) > self._limits.max_received:
            raise Refused(replies.LOOP)
        if envelope.body == "BINARYMIME" and trace.bare_line_end(header):
            # RFC 3030 section 3: lines of the header section end with CRLF still.
            raise Refused(BARE_LINE_END)
        blank = b""
        if header and not trace.begins_with_field(header):
            header, blank = b"", b"\r\n"  # no header section: ours must not swallow the first lines
        added, kept = await self.message(envelope, header)
        rest = content.message(0 if kept is header else len(header))
        front = added + blank + (b"" if kept is header else kept)
        if self._inspection:
            body = content.message(0 if blank else min(len(header) + 2, content.size))
            incoming = checks.Incoming(added + kept, body, self.reception.work, transaction.spare)
            outcome = await self._inspection.message(self._now(transaction), envelope, incoming)
            envelope = outcome.envelope
            if outcome.discard or not envelope.recipients:
                return envelope, None
            if outcome.body is not None:
                rest, front = outcome.body.message(), outcome.header + b"\r\n"
            elif outcome.header != incoming.header:
                rest, front = content.message(len(header)), outcome.header + blank
        return envelope, rest.prefixed(self._trace_field(envelope) + front)

    def _trace_field(self, envelope: Envelope) -> bytes:
        helo = self._helo or events.Helo("unknown", False)
        now = self.reception.clock.seconds()
        protocol = self.protocol if helo.extended else "SMTP"
        return trace.received(envelope, self.peer, helo.domain, protocol, self.hostname, now)

    def _now(
        self,
        transaction: Transaction | None = None,
        *,
        helo: events.Helo | None = None,
        recipient: Recipient | None = None,
    ) -> checks.Transaction:
        """What the checks of the policy may know."""
        now = checks.Transaction.begun(
            self._connection, helo or self._helo, self.login, self.mechanism if self.login else None
        )
        transaction = transaction or self._transaction
        if transaction is None:
            return now
        known = tuple(transaction.recipients.values())
        return now.joined(transaction.id, transaction.mail, (*known, recipient) if recipient else known)

    def _ask_room(self, octets: int) -> None:
        content = self._in_transaction().content
        if content.size + octets > self.max_message_octets:
            content.discard()
            raise Refused(replies.TOO_BIG)

    def _disk_error(self, error: OSError) -> Reply:
        _log.error("cannot write to the spool: {error}", error=str(error))
        return replies.NO_ROOM if error.errno in _FULL_DISK else LOCAL_ERROR

    def _in_transaction(self) -> Transaction:
        assert self._transaction is not None  # the session's table says so
        return self._transaction

    def _forget(self) -> None:
        if self._transaction:
            self._transaction.discard()
            self._transaction = None
            if self._inspection:
                self._inspection.reset()


_ALWAYS: dict[type, Reply] = {
    events.Data: replies.GO_AHEAD,
    events.Noop: replies.OK,
    events.Help: replies.HELP,
    events.Vrfy: replies.CANNOT_VERIFY,
    events.Expn: replies.NO_LISTS,
}

_ANSWERS: dict[type, Callable[[SmtpRole, Any], Awaitable[Reply | Replies | None]]] = {
    events.Helo: SmtpRole._on_helo,
    events.Auth: SmtpRole._on_auth,
    events.AuthLine: SmtpRole._on_auth,
    events.Mail: SmtpRole._on_mail,
    events.Rcpt: SmtpRole._on_rcpt,
    events.Bdat: SmtpRole._on_bdat,
    events.Chunk: SmtpRole._on_chunk,
    events.EndOfChunk: SmtpRole._on_end_of_chunk,
    events.EndOfData: SmtpRole._on_end_of_data,
    events.StartTls: SmtpRole._on_start_tls,
    events.Reset: SmtpRole._on_reset,
    events.Quit: SmtpRole._on_quit,
    events.Malformed: SmtpRole._on_malformed,
}
