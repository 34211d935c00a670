"""Submission (RFC 6409, RFC 8314): TLS, then a login, then mail in one's own name.

Theory of operation. A password is taken only where nobody can listen: in TLS, or from the networks that the
operator names. The reverse-path and every address of the From field must be the user's own. What a
message lacks by RFC 5322 (From, Date, Message-ID) is put in front of it, and Bcc is taken out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from mailstack.directory.model import Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Envelope, Recipient
from mailstack.mail.reply import Refused, Reply
from mailstack.msa.fix_up import Draft
from mailstack.msa.settings import MsaConfig
from mailstack.net.peer import Peer
from mailstack.net.reception import Reception, SmtpRole
from mailstack.net.sign_in import Outcome, Patience, Refusal, SignIn, Welcome, Why
from mailstack.net.trace import date_time
from mailstack.wire import sasl
from mailstack.wire.smtp import events

STARTTLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 section 4
AUTH_FIRST = Reply(530, "5.7.0", "Authentication required")  # RFC 4954 section 6
ENCRYPT_FIRST = Reply(538, "5.7.11", "Encryption required for the requested authentication mechanism")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Authentication mechanism not supported")
WELCOME = Reply(235, "2.7.0", "Authentication successful")
WRONG = Reply(535, "5.7.8", "Authentication credentials invalid")
CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
UNAVAILABLE = Reply(454, "4.7.0", "Temporary authentication failure; try again later")
TOO_MANY_FAILURES = Reply(421, "4.7.0", "Too many failed logins; closing")
NOT_YOURS = Reply(553, "5.7.1", "Not your address: send from your own")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")

_REFUSALS = {
    Why.IN_CLEAR: ENCRYPT_FIRST,
    Why.UNKNOWN_MECHANISM: UNKNOWN_MECHANISM,
    Why.CANCELLED: CANCELLED,
    Why.WRONG: WRONG,
    Why.UNAVAILABLE: UNAVAILABLE,
}
_MOST_REMEMBERED = 100  # addresses whose owner a connection remembers


class Users(Protocol):
    """What submission asks of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...

    async def may_send_as(self, user: User, address: Address) -> bool: ...


WhyNot = Callable[[Address], Awaitable[Reply | None]]


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

    def hello(self) -> Sequence[str]:
        """STARTTLS where it can still be had, AUTH where a password is safe."""
        offers = list(super().hello())
        if self._service.tls and not self.peer.secure:
            offers.append("STARTTLS")
        mechanisms = self._door.mechanisms
        if mechanisms:
            offers.append("AUTH " + " ".join(mechanisms))
        return offers

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

    async def rcpt(self, recipient: Recipient) -> Recipient:
        """Anybody elsewhere; here only who exists."""
        user = self._logged_in()
        address = recipient.address
        if not address.domain:  # <Postmaster>: theirs
            address = Address(address.local_part, user.address.domain)
            recipient = Recipient(address, recipient.notify, recipient.orcpt)
        if await self._directory.is_local(address.domain):
            if await self._directory.resolve(address) is None:
                raise Refused(NO_SUCH_USER)
        elif self._service.refusal is not None:
            reply = await self._service.refusal(address)
            if reply is not None:
                raise Refused(reply)
        return recipient

    async def message(self, envelope: Envelope, header: bytes) -> tuple[bytes, bytes]:
        """Check From; add what is missing; take Bcc out (RFC 6409 sections 6.1 and 8)."""
        user = self._logged_in()
        draft = Draft(header)
        for address in draft.authors():
            if not await self._owns(user, address):
                text = f"From: {address} is not your address"
                raise Refused(Reply(550, "5.7.1", text))
        added = draft.missing(
            author=envelope.reverse_path or user.address,
            date=date_time(self.reception.clock.seconds()),
            message_id=f"<{envelope.id}@{self.hostname}>",
        )
        return added, draft.without_bcc()

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
