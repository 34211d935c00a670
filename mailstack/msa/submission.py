"""Submission (RFC 6409, RFC 8314): TLS, then a login, then mail in one's own name.

Theory of operation. A password is taken only where nobody can listen: in TLS, or from the networks that the
operator names. The reverse-path and every address of the From field must be the user's own. What a
message lacks by RFC 5322 (From, Date, Message-ID) is put in front of it, and Bcc is taken out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from mailstack.directory.model import Resolution, User
from mailstack.mail.address import Address
from mailstack.mail.envelope import Accepts, Envelope, Recipient
from mailstack.mail.reply import Refused, Reply
from mailstack.msa.fix_up import Draft
from mailstack.msa.settings import MsaConfig
from mailstack.net.peer import Network, Peer
from mailstack.net.reception import Reception, SmtpRole
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
TOO_MANY_FAILURES = Reply(421, "4.7.0", "Too many failed logins; closing")
NOT_YOURS = Reply(553, "5.7.1", "Not your address: send from your own")
NO_SUCH_USER = Reply(550, "5.1.1", "No such user here")

_MOST_REMEMBERED = 100  # addresses whose owner a connection remembers


class Users(Protocol):
    """What submission asks of the directory."""

    async def is_local(self, domain: str) -> bool: ...

    async def resolve(self, address: Address) -> Resolution | None: ...

    async def authenticate(self, login: str, password: str, peer: str = ...) -> User | None: ...

    async def may_send_as(self, user: User, address: Address) -> bool: ...


Refusal = Callable[[Address], Awaitable[Reply | None]]


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
        plaintext_networks: Sequence[Network] = (),
        tls: bool = True,
        refusal: Refusal | None = None,
    ) -> None:
        self.config = config
        self.hostname = hostname
        self.directory = directory
        self.accepts = accepts
        self.reception = reception
        self.plaintext_networks = tuple(plaintext_networks)
        self.refusal = refusal  # why nothing may be sent to an address elsewhere
        self.tls = tls  # STARTTLS can be offered: there is a certificate

    def welcome(self, peer: Peer, say: object) -> SubmissionRole:
        """The role for one connection."""
        return SubmissionRole(self, peer)


class SubmissionRole(SmtpRole):
    """Answers one client of a user."""

    def __init__(self, service: Submission, peer: Peer) -> None:
        super().__init__(service.config, service.hostname, service.accepts, service.reception, peer)
        self._service = service
        self._directory = service.directory
        self._user: User | None = None
        self._mechanism: sasl.Mechanism | None = None
        self._failures = 0
        self._owned: dict[Address, bool] = {}  # what the directory said about this user's addresses

    def hello(self) -> Sequence[str]:
        """STARTTLS where it can still be had, AUTH where a password is safe."""
        offers = list(super().hello())
        if self._service.tls and not self.peer.secure:
            offers.append("STARTTLS")
        if self._password_is_safe():
            offers.append("AUTH " + " ".join(sasl.MECHANISMS))
        return offers

    async def auth(self, event: events.Auth | events.AuthLine) -> Reply:
        """The next step of the login."""
        if isinstance(event, events.Auth):
            if not self._password_is_safe():
                raise Refused(ENCRYPT_FIRST)
            if self._failures >= self._service.config.max_auth_failures:
                return TOO_MANY_FAILURES
            self._mechanism = sasl.start(event.mechanism)
            response = event.initial_response
        else:
            response = event.data
            if response is None:
                self._mechanism = None
                raise Refused(CANCELLED)
        if self._mechanism is None:
            raise Refused(UNKNOWN_MECHANISM)
        return await self._step(self._mechanism, response)

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
        self._user = self._mechanism = None
        self._owned.clear()

    def _password_is_safe(self) -> bool:
        return self.peer.secure or self.peer.within(self._service.plaintext_networks)

    def _logged_in(self) -> User:
        if self._user is None:
            raise Refused(AUTH_FIRST if self._password_is_safe() else STARTTLS_FIRST)
        return self._user

    async def _owns(self, user: User, address: Address) -> bool:
        owned = self._owned.get(address)
        if owned is None:
            owned = await self._directory.may_send_as(user, address)
            if len(self._owned) < _MOST_REMEMBERED:
                self._owned[address] = owned
        return owned

    async def _step(self, mechanism: sasl.Mechanism, response: bytes | None) -> Reply:
        try:
            step = mechanism.step(response)
        except sasl.BadExchange as error:
            self._mechanism = None
            raise Refused(Reply(501, "5.5.2", f"Bad response: {error}")) from error
        if isinstance(step, sasl.Challenge):
            return Reply(334, "", sasl.encode(step.data))
        self._mechanism = None
        user = await self._directory.authenticate(step.login, step.password, self.peer.address)
        if user is None:
            return await self._failed()
        self._user = user
        self.login = str(user.address)
        self.log.info("login of {login} from {peer}", login=self.login, peer=self.peer.address)
        return WELCOME

    async def _failed(self) -> Reply:
        """Refuse slowly: guessing must not pay. The directory has logged why."""
        delay = self._service.config.auth_failure_seconds * 1.5**self._failures
        self._failures += 1
        waited: Deferred[None] = Deferred()
        self.reception.clock.callLater(delay, waited.callback, None)
        await waited
        return WRONG
