"""Submission (RFC 6409, RFC 8314): TLS, then a login, then mail in one's own name.

Theory of operation. A password is taken only where nobody can listen: in TLS, or from the networks that the
operator names. The reverse-path and every address of the From field must be the user's own. What a
message lacks by RFC 5322 (From, Date, Message-ID) is put in front of it, and Bcc is taken out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.logger import Logger

from mailstack.directory.model import Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mail.results import without_claims
from mailstack.msa.counts import Hour
from mailstack.msa.fix_up import Draft
from mailstack.msa.limits import HourlyLimits
from mailstack.msa.settings import MsaConfig
from mailstack.net.peer import Peer
from mailstack.net.reception import SmtpRole
from mailstack.net.sign_in import Outcome, Patience, Refusal, SignIn, Welcome, Why
from mailstack.net.spool import Content
from mailstack.net.trace import begins_with_field, date_time, utc
from mailstack.net.transaction import Reception
from mailstack.wire import sasl
from mailstack.wire.smtp import events

_log = Logger(namespace="mailstack.smtp")

STARTTLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 section 4
AUTH_FIRST = Reply(530, "5.7.0", "Authentication required")  # RFC 4954 section 6
ENCRYPT_FIRST = Reply(538, "5.7.11", "Encryption required for the requested authentication mechanism")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not supported")
WELCOME = Reply(235, "2.7.0", "Authentication successful")
WRONG = Reply(535, "5.7.8", "Authentication credentials invalid")
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure; try again later")
TOO_MANY_GUESSES = Reply(454, "4.7.0", "Too many failed logins; try again later")
TOO_MANY_FAILURES = Reply(421, "4.7.0", "Too many failed logins; closing")
NOT_YOURS = Reply(553, "5.7.1", "Not your address: send from your own")
TOO_LONG_HELD = Reply(501, "5.5.4", "The release is further away than we hold messages")  # RFC 4865
RELEASED_TOO_LATE = Reply(501, "5.5.4", "It would be released after the time by which it is to be delivered")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")

_REFUSALS = {
    Why.IN_CLEAR: ENCRYPT_FIRST,
    Why.UNKNOWN_MECHANISM: UNKNOWN_MECHANISM,
    Why.CANCELLED: CANCELLED,
    Why.WRONG: WRONG,
    Why.UNAVAILABLE: UNAVAILABLE,
    Why.TOO_MANY: TOO_MANY_GUESSES,
}
_MOST_REMEMBERED = 100  # addresses whose owner a connection remembers


class Users(Protocol):
    """What submission asks of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...

    async def may_send_as(self, user: User, address: Address) -> bool: ...


WhyNot = Callable[[Address], Awaitable[Reply | None]]


class SavesSent(Protocol):
    """What submission asks of the store."""

    async def save_sent(
        self, user_id: int, message: Message, quota: tuple[int | None, int | None]
    ) -> None: ...


class Submission:
    """Step 1 of the mail's path: welcomes our users' clients on the submission ports."""

    def __init__(
        self,
        config: MsaConfig,
        *,
        hostname: str,
        directory: Users,
        accepts: Accepts,
        reception: Reception,
        sign_in: SignIn,
        tls: bool = True,
        limits: HourlyLimits | None = None,
        store: SavesSent | None = None,
        refusal: WhyNot | None = None,
    ) -> None:
        self.config = config
        self.hostname = hostname
        self.directory = directory
        self.accepts = accepts
        self.reception = reception
        self.sign_in = sign_in
        self.refusal = refusal  # why nothing may be sent to an address elsewhere
        self.tls = tls  # STARTTLS can be offered: there is a certificate
        self.limits = limits  # None: no user has any
        self.store = store if config.save_sent else None  # where copies of what is sent go

    def welcome(self, peer: Peer, say: object) -> SubmissionRole:
        """The role for one connection."""
        return SubmissionRole(self, peer)


class SubmissionRole(SmtpRole):
    """Answers one client of a user."""

    service = "submission"

    def __init__(self, service: Submission, peer: Peer) -> None:
        super().__init__(service.config, service.hostname, service.accepts, service.reception, peer)
        self._service = service
        self._directory = service.directory
        self._user: User | None = None
        config = service.config
        patience = Patience(config.max_auth_failures, config.auth_failure_seconds)
        self._door = service.sign_in.door(peer, "submission", patience)
        self._owned: dict[Address, bool] = {}  # what the directory said about this user's addresses
        self._hour = Hour()  # what they have sent in the last
        self._named = 0  # recipients of this message
        self._copy = b""  # the header section for their own copy

    def hello(self) -> Sequence[str]:
        """STARTTLS where it can still be had, AUTH where a password is safe; and what users may ask for."""
        # Also before the login, as in RFC 6710 section 8: many clients do not say EHLO again after it.
        offers = [*super().hello(), *self.for_users()]
        if self._service.tls and not self.peer.secure:
            offers.append("STARTTLS")
        mechanisms = self._door.mechanisms
        if mechanisms:
            offers.append("AUTH " + " ".join(mechanisms))
        return offers

    def for_users(self) -> list[str]:
        """What strangers may not ask for (RFC 6710 section 4.1): their MAIL is refused whatever it says."""
        offers = ["MT-PRIORITY"]
        longest = self._service.config.max_hold_seconds
        if longest:  # RFC 4865 section 4
            until = utc(self.reception.clock.seconds() + longest)
            offers.append(f"FUTURERELEASE {longest} {until}")
        return offers

    @property
    def max_message_octets(self) -> int:
        """What this user may send at most, or everybody."""
        user = self._user
        if user is not None and user.max_message_octets is not None:
            return user.max_message_octets
        return super().max_message_octets

    async def auth(self, event: events.Auth | events.AuthLine) -> Reply:
        """The next step of the login."""
        if isinstance(event, events.AuthLine):
            return self._said(await self._door.respond(event.data))
        if self._door.is_worn:
            return TOO_MANY_FAILURES
        self.mechanism = event.mechanism.upper()
        return self._said(await self._door.begin(event.mechanism, event.initial_response))

    def _said(self, outcome: Outcome) -> Reply:
        match outcome:
            case sasl.Challenge(data):
                return Reply(334, "", sasl.encode(data))
            case Refusal(Why.MALFORMED, text):
                return Reply(501, "5.5.2", f"Bad response: {text}")
            case Refusal(why):
                return _REFUSALS[why]
            case Welcome(user):
                self._user = user
                self.login = str(user.address)
        return WELCOME

    async def mail(self, event: events.Mail) -> None:
        """Only who has logged in, and only in their own name; ``<>`` is for read receipts (RFC 8098)."""
        user = self._logged_in()
        if event.reverse_path is not None and not await self._owns(user, event.reverse_path):
            raise Refused(NOT_YOURS)
        self._check_release(event)
        limits = self._service.limits
        if limits is not None:
            self._hour = await limits.hour(user.id)
            limits.check_message(self._hour)
        self._named = 0

    async def rcpt(self, recipient: Recipient) -> Recipient:
        """Anybody elsewhere; here only who exists."""
        user = self._logged_in()
        limits = self._service.limits
        if limits is not None:
            limits.check_recipients(self._hour, self._named + 1)
        address = recipient.address
        if not address.domain:  # <Postmaster>: theirs
            address = Address(address.local_part, user.address.domain)
            recipient = Recipient(address, recipient.notify, recipient.orcpt)
        if await self._directory.is_local(address.domain):
            if await self._directory.resolve(address) is None:
                if limits is not None:
                    await limits.count_unknown(user.id)
                    self._hour = await limits.hour(user.id)
                raise Refused(NO_SUCH_USER)
        elif self._service.refusal is not None:
            reply = await self._service.refusal(address)
            if reply is not None:
                raise Refused(reply)
        self._named += 1
        return recipient

    async def message(self, envelope: Envelope, header: bytes) -> tuple[bytes, bytes]:
        """Check From; add what is missing; take Bcc out (RFC 6409 sections 6.1 and 8)."""
        user = self._logged_in()
        header = without_claims(header, self.hostname)
        draft = Draft(header)
        for address in draft.authors():
            if not await self._owns(user, address):
                text = f"From: {address} is not your address"
                raise Refused(Reply(550, "5.7.1", text))
        added = await self.ordered(draft, envelope, user.address, lambda address: self._owns(user, address))
        if self._service.limits is not None:
            await self._service.limits.count(user.id, len(envelope.recipients))
        return added, draft.remaining()

    async def ordered(
        self, draft: Draft, envelope: Envelope, author: Address, owns: Callable[[Address], Awaitable[bool]]
    ) -> bytes:
        """The fields that `draft` lacks; Sender where it has several authors (RFC 5322 section 3.6.2)."""
        sent_by = envelope.reverse_path or author
        added = draft.missing(
            author=sent_by,
            date=date_time(self.reception.clock.seconds()),
            message_id=f"<{envelope.id}@{self.hostname}>",
        )
        self._copy = added + draft.header
        sender = draft.sender()
        if len(set(draft.authors())) > 1 and (sender is None or not await owns(sender)):
            added += draft.replace_sender(sent_by)
        return added

    async def taken(self, envelope: Envelope, content: Content) -> None:
        """A copy for the sender, Bcc and all: they shall find what they wrote."""
        store, user = self._service.store, self._user
        if store is None or user is None:
            return
        header = content.header()
        bare = header and not begins_with_field(header)  # text alone: its first lines are no header section
        copy = content.message(0 if bare else len(header)).prefixed(self._copy + (b"\r\n" if bare else b""))
        try:
            await store.save_sent(user.id, copy, (user.quota_octets, user.quota_messages))
        except Exception as error:
            _log.warn("{id}: no copy in Sent: {why!r}", id=envelope.id, why=error)

    def _check_release(self, event: events.Mail) -> None:
        """RFC 4865 section 4: not too far in the future."""
        now = self.reception.clock.seconds()
        release = now + event.hold_for if event.hold_for is not None else event.hold_until
        if release is None:
            return
        if release - now > self._service.config.max_hold_seconds:
            raise Refused(TOO_LONG_HELD)
        if event.by is not None and now + event.by.seconds <= release:
            raise Refused(RELEASED_TOO_LATE)

    def log_out(self) -> None:
        """What was proved in clear counts for nothing in TLS (RFC 3207 section 4.2)."""
        super().log_out()
        self._user = None
        self._door.abandon()
        self._owned.clear()

    def _logged_in(self) -> User:
        if self._user is None:
            raise Refused(AUTH_FIRST if self._door.is_private else STARTTLS_FIRST)
        return self._user

    async def _owns(self, user: User, address: Address) -> bool:
        owned = self._owned.get(address)
        if owned is None:
            owned = await self._directory.may_send_as(user, address)
            if len(self._owned) < _MOST_REMEMBERED:
                self._owned[address] = owned
        return owned
