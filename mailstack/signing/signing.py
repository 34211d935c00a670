"""Signs messages that we answer for.

Theory of operation. The queue has `Signing` sign what our users submit and the reports that we write, once it
knows that some of it leaves us. By then a message is as it will be sent, but for trace fields, which are not
signed; a recipient here gets it with the signatures that the others get. Hashing and signing run in the file
threads, which read the message in chunks; a message that cannot be signed goes unsigned: the log says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mailstack.directory.names import domain_key
from mailstack.mail.dkim import Signer
from mailstack.mail.dkim.signing import sign, split
from mailstack.mail.envelope import Envelope
from mailstack.mail.fields import Group, parse_addresses, split_fields
from mailstack.mail.message import Message
from mailstack.signing.keyring import Keyring
from mailstack.trail.notes import NO_NOTES, SIGNED, Notes

_log = Logger(namespace="mailstack.dkim")

T = TypeVar("T")


class Threads(Protocol):
    """What is needed of `mailstack.work.Work`."""

    async def files(self, function: Callable[..., T], *args: Any) -> T: ...


class Signing:
    """Signs for the domain of the From field."""

    def __init__(self, keyring: Keyring, work: Threads, clock: Any, trail: Notes = NO_NOTES) -> None:
        self._keyring = keyring
        self._work = work
        self._clock = clock
        self._trail = trail

    async def signed(self, envelope: Envelope, message: Message) -> Message:
        """The message with a signature of each key of its author's domain in front; or as it is."""
        try:
            domain = await self._domain(message)
            signers = await self._keyring.signers(domain) if domain else ()
            if not signers:
                return message
            now = int(self._clock.seconds())
            fields = await self._work.files(_sign, message, signers, now)
        except CancelledError:
            raise
        except Exception as error:
            _log.failure("{id}: sent without a signature: {why}", id=envelope.id, why=error)
            return message
        by = [f"{signer.selector}._domainkey.{signer.domain}" for signer in signers]
        self._trail.note(envelope.id, SIGNED, None, by=by)
        return message.prefixed(fields)

    async def _domain(self, message: Message) -> str:
        if all(isinstance(part, bytes) for part in message.parts):
            return author_domain(message)
        return await self._work.files(author_domain, message)


def author_domain(message: Message) -> str:
    """The domain of the first From address in A-labels, "" where there is none. Blocks for files."""
    header, _ = split(message.chunks())
    for name, raw in split_fields(header):
        if name == b"from":
            for one in parse_addresses(raw.partition(b":")[2]):
                mailboxes = one.members if isinstance(one, Group) else (one,)
                for mailbox in mailboxes:
                    return domain_key(mailbox.domain or "")
    return ""


def _sign(message: Message, signers: Sequence[Signer], now: int) -> bytes:
    return sign(message.chunks(), signers, now)
