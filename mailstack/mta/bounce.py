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
from mailstack.trail.notes import NO_NOTES, RECEIVED, REPORTED, Notes
from mailstack.work import Work

_log = Logger(namespace="mailstack.bounce")

Take = Callable[[Envelope, Message], Awaitable[dict[Address, Reply]]]

SECOND = ".2"  # ends the id of a report about a report
_NOTIFY = {
    "failed": "FAILURE",
    "delayed": "DELAY",
    "delivered": "SUCCESS",
    "relayed": "SUCCESS",
    "expanded": "SUCCESS",
}


def wanted(recipient: Recipient, action: str) -> bool:
    """Whether the sender is to hear of `action` for this recipient (RFC 3461 section 4.1)."""
    if recipient.notify:
        return _NOTIFY[action] in recipient.notify
    return action in ("failed", "delayed")  # RFC 3461 section 5.2.1: what holds where nothing was asked


class Bounces:
    """Makes notifications and hands them to `take`, the queue itself."""

    def __init__(
        self,
        hostname: str,
        returned: int,
        work: Work,
        clock: Any,
        take: Take,
        trail: Notes = NO_NOTES,
        postmaster: Callable[[], Awaitable[Address]] | None = None,
    ) -> None:
        self._hostname = hostname
        self._returned = returned
        self._work = work
        self._clock = clock
        self._take = take
        self._trail = trail
        self._postmaster = postmaster  # who hears of failures that nobody else can be told of

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
        the null path (RFC 5321 section 4.5.5), of whose failures postmaster hears instead, nor for recipients
        whose NOTIFY does not want it, unless `always`: True.
        """
        by_address = {recipient.address: recipient for recipient in envelope.recipients}
        if envelope.reverse_path is None:
            told = tuple(one for one in statuses if one.action == "failed")
        else:
            told = tuple(one for one in statuses if always or wanted(by_address[one.recipient], one.action))
        if not told:
            return True
        try:
            to = envelope.reverse_path or await self._instead(envelope)
            if to is None:
                _log.warn("{id}: nobody to tell: {told}", id=envelope.id, told=_summary(told))
                return True
            if envelope.reverse_path is None:
                notification += SECOND
            return await self._send(notification, to, envelope, arrived, message, told)
        except CancelledError:
            raise
        except Exception:
            _log.failure("{id}: the notification could not be queued", id=notification)
            return False

    async def _instead(self, envelope: Envelope) -> Address | None:
        """Postmaster, where a bounce bounces (once); None: there is nobody."""
        if self._postmaster is None or envelope.id.endswith(SECOND):
            return None
        to = await self._postmaster()
        return None if any(one.address.key == to.key for one in envelope.recipients) else to

    async def _send(
        self,
        notification: str,
        to: Address,
        envelope: Envelope,
        arrived: float,
        message: Message,
        told: tuple[Status, ...],
    ) -> bool:
        original, full = await self._work.files(self._original, envelope, message, told[0].action)
        report = Report(
            id=notification,
            hostname=self._hostname,
            to=to,
            now=self._clock.seconds(),
            arrived=arrived,
            envid=envelope.envid,
            statuses=told,
            original=original,
            full=full,
            log_id=envelope.id,
            received_from=envelope.received_from,
            deliver_by=envelope.deliver_by.deadline if envelope.deliver_by else None,
            hold_until=envelope.hold_until,
        )
        data = await self._work.compute(compose, report)
        self._trail.note(
            notification,
            RECEIVED,
            "",
            f"<{notification}@{self._hostname}>",
            made_here=f"{told[0].action} report",
            recipients=[str(report.to)],
            size=len(data),
        )
        replies = await self._take(_envelope(report, data, envelope), Message.of(data))
        reply = replies[report.to]
        self._trail.note(
            envelope.id,
            REPORTED,
            report.to,
            report=notification,
            action=told[0].action,
            about=[str(one.recipient) for one in told],
            reply=str(reply),
        )
        if reply.permanent:
            _log.warn("{id}: dropped, its recipient takes none: {reply}", id=report.id, reply=reply)
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
        smtputf8=report.smtputf8,
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
