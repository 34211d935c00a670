"""Telling senders what became of their mail: who is told, about whom, and the notification on its way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.dsn import MAX_HEADER, Report, Status, compose
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.work import Work

Take = Callable[[Envelope, Message], Awaitable[dict[Address, Reply]]]

_NOTIFY = {"failed": "FAILURE", "delayed": "DELAY", "delivered": "SUCCESS", "relayed": "SUCCESS"}


def wanted(recipient: Recipient, action: str) -> bool:
    """Whether the sender is to hear of `action` for this recipient (RFC 3461 section 4.1)."""
    if recipient.notify:
        return _NOTIFY[action] in recipient.notify
    return action in ("failed", "delayed")  # RFC 3461 section 5.2.1: what holds where nothing was asked


class Bounces:
    """Makes notifications and hands them to `take`, the queue itself."""

    _log = Logger(namespace="mailstack.bounce")

    def __init__(self, hostname: str, returned: int, work: Work, clock: Any, take: Take) -> None:
        self._hostname = hostname
        self._returned = returned
        self._work = work
        self._clock = clock
        self._take = take

    async def report(
        self,
        notification: str,
        envelope: Envelope,
        arrived: float,
        message: Message,
        statuses: Sequence[Status],
        always: bool = False,
    ) -> bool:
        """Send one notification about the recipients in `statuses` to the reverse-path.

        `notification` is its queue id: the same again is recognised, so a repeat after a crash says nothing
        twice. Returns False where it could not be queued now; the caller tries again later. There is none for
        the null path (RFC 5321 section 4.5.5), nor for recipients whose NOTIFY does not want it, unless
        `always`: True.
        """
        by_address = {recipient.address: recipient for recipient in envelope.recipients}
        told = tuple(one for one in statuses if always or wanted(by_address[one.recipient], one.action))
        if not told:
            return True
        if envelope.reverse_path is None:
            self._log.warn("{id}: nobody to tell: {told}", id=envelope.id, told=_summary(told))
            return True
        try:
            return await self._send(notification, envelope, arrived, message, told)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("{id}: the notification could not be queued", id=notification)
            return False

    async def _send(
        self,
        notification: str,
        envelope: Envelope,
        arrived: float,
        message: Message,
        told: tuple[Status, ...],
    ) -> bool:
        assert envelope.reverse_path is not None
        original, full = await self._work.files(self._original, envelope, message, told[0].action)
        report = Report(
            id=notification,
            hostname=self._hostname,
            to=envelope.reverse_path,
            now=self._clock.seconds(),
            arrived=arrived,
            envid=envelope.envid,
            statuses=told,
            original=original,
            full=full,
        )
        data = await self._work.compute(compose, report)
        replies = await self._take(_envelope(report, data, envelope), Message.of(data))
        reply = replies[report.to]
        if reply.permanent:
            self._log.warn("{id}: dropped, its recipient takes none: {reply}", id=report.id, reply=reply)
        return not reply.transient

    def _original(self, envelope: Envelope, message: Message, action: str) -> tuple[bytes, bool]:
        """What is returned: a small message unless RET=HDRS, else its header (RFC 3461 section 4.3)."""
        headers_only = envelope.ret == "HDRS" or envelope.requiretls  # RFC 8689 section 5
        full = action == "failed" and not headers_only and message.size <= self._returned
        try:
            return _beginning(message, self._returned if full else MAX_HEADER), full
        except (OSError, EOFError):
            return b"", False  # the notification matters more than what comes with it


def _envelope(report: Report, data: bytes, about: Envelope) -> Envelope:
    """The notification's own: from nobody, and without a notification about itself (RFC 3464 section 2)."""
    return Envelope(
        id=report.id,
        reverse_path=None,
        recipients=(Recipient(report.to, frozenset({"NEVER"})),),
        body="7BIT" if data.isascii() else "8BITMIME",
        smtputf8=report.utf8,
        requiretls=about.requiretls,  # RFC 8689 section 5
        tls_optional=about.tls_optional,
    )


def _beginning(message: Message, most: int) -> bytes:
    data = b""
    for chunk in message.chunks():
        data += chunk
        if len(data) >= most:
            break
    return data[:most]


def _summary(statuses: Sequence[Status]) -> str:
    return ", ".join(f"<{one.recipient}> {one.action}: {one.reply}" for one in statuses)
