"""Step 3 of the journey: one message to the next MTA (RFC 5321 sections 3.3 and 4.5.4).

Theory of operation. The exchangers of a hop are tried in order. A connection that cannot be made, that
breaks, or a server that refuses to serve (its greeting, EHLO, 421) leads to the next; a reply about the
sender, a recipient or the content is this message's result. What TLS must prove is for `security` to say;
where nobody asks for proof, TLS is used where it works, else the same exchanger is tried again in clear: a
certificate could prove nothing about a name from an unsigned MX record, and mail that waits is worse than
mail that is read. A message may ask for more (REQUIRETLS) or for less ("TLS-Required: No"; RFC 8689). Once
the content's end is sent and no reply comes, nobody can tell whether the message was taken: it is tried again
later, and the log says that it may arrive twice. A hop that could not be reached is left alone for a while,
by every message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.connections import Connection, Connections, Unprotected
from mailstack.mta.exchangers import Exchangers, Target
from mailstack.mta.hops import Hops, known_hops
from mailstack.mta.result import NextExchangerError, Result, not_tried, same_for_all
from mailstack.mta.security import CLEAR, Level, Plan, Protection, Security
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transaction import Transaction
from mailstack.net.client_tls import Roots
from mailstack.net.dialogue import Broken, Timeouts, TlsFailed
from mailstack.net.peer import Peer
from mailstack.net.transcript import Transcript
from mailstack.wire.smtp import client
from mailstack.work import Work

_log = Logger(namespace="mailstack.transfer")

__all__ = ["NextExchangerError", "Result", "Transfer"]

REQUIRETLS = "REQUIRETLS"  # who asks for verified TLS, where nobody else does
MAX_PASSWORD_FILE = 4096  # octets


class Transfer(Service):
    """Sends messages to other MTAs. Raises OSError or `OpenSSL.SSL.Error` over the file of authorities."""

    def __init__(
        self,
        config: MtaConfig,
        hostname: str,
        exchangers: Exchangers,
        work: Work,
        reactor: Any,
        *,
        timeouts: Timeouts | None = None,
        transcript: Callable[[Peer], Transcript] | None = None,
        protection: Protection | None = None,
        roots: Roots | None = None,
        hops: Hops | None = None,
    ) -> None:
        self._config = config
        self._exchangers = exchangers
        self._work = work
        self._reactor = reactor
        self._protection = protection or Protection(config)
        self.hops = hops or known_hops(config, reactor, Random())
        self._timeouts = timeouts or Timeouts(connect=config.connect_timeout)
        self._connections = Connections(
            reactor,
            hostname.lower(),
            self._timeouts,
            roots or Roots(config.ca_file),
            transcript,
            keep=config.keep_connections,
            most=config.kept_connections,
            messages=config.messages_per_connection,
        )

    def hop(self, domain: str, sender: Address | None = None) -> str:
        """What a recipient's entries are grouped by."""
        return self._exchangers.hop(domain, sender)

    def stopService(self) -> None:
        """End the connections that wait for a next message."""
        super().stopService()
        self._connections.close()

    async def send(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Result]:
        """Try the hop's exchangers in order; a result for each recipient, whatever the peers do."""
        down = self.hops.down(hop)
        if down is not None:
            return same_for_all(envelope, not_tried(down))
        try:
            targets = await self._exchangers.find(hop)
        except Refused as refused:
            result = Result(refused.reply)
            self._unreachable(hop, result)
            return same_for_all(envelope, result)
        plan = await self._protection.plan(hop)
        failures: list[NextExchangerError] = []
        for target in targets:
            try:
                results = await self._to(plan, target, envelope, message)
            except NextExchangerError as error:
                _log.info("{id}: {why}", id=envelope.id, why=error)
                failures.append(error)
            else:
                self.hops.went_well(hop)
                return results
        # One that may serve us later is a reason to wait; that all refuse for good is none.
        chosen = next((one.result for one in failures if one.result.reply.transient), failures[-1].result)
        if all(one.unreachable for one in failures):
            self._unreachable(hop, chosen)
        return same_for_all(envelope, chosen)

    def _unreachable(self, hop: str, result: Result) -> None:
        if result.reply.transient and self.hops.went_wrong(hop, result):
            _log.warn("{hop} is left alone for a while: {why}", hop=hop, why=result)

    async def _to(
        self, plan: Plan, target: Target, envelope: Envelope, message: Message
    ) -> dict[Address, Result]:
        """As many connections as the server's MAILMAX and RCPTDOMAINMAX ask for (RFC 9422 section 4)."""
        security = await self._security(plan, target, envelope)
        results: dict[Address, Result] = {}
        left = envelope.recipients
        give_up = self._reactor.seconds() + self._timeouts.attempt
        while left:
            some = envelope.only(left)
            if results and self._reactor.seconds() > give_up:
                return results | _interrupted(some, Broken("the server is too slow"), target)
            try:
                results |= await self._protected(plan, target, security, some, message)
            except NextExchangerError as error:
                if not results:
                    raise
                return results | _interrupted(some, error, target)
            left = tuple(one for one in left if one.address not in results)
        return results

    async def _security(self, plan: Plan, target: Target, envelope: Envelope) -> Security:
        """What the exchanger must show for this message; raise NextExchangerError."""
        if not _strict(envelope):
            optional = envelope.tls_optional and not envelope.requiretls
            if not optional or (target.route is not None and target.route.verified):
                return await self._protection.security(plan, target)
            # RFC 8689 section 5: whatever DANE and MTA-STS say; the operator's own word holds.
            return Security(Level.MAY, "TLS-Required: No") if self._config.starttls else CLEAR
        security = await self._protection.security(plan, target)
        if security.level is Level.VERIFY:
            return security
        certain = target.secure or self._exchangers.is_certain(plan.hop)
        if not (certain or self._config.requiretls_by_mx):
            # RFC 8689 section 4.2.1: a name from an unsigned MX record proves nothing.
            text = "REQUIRETLS: the mail exchanger's name is not certain without DNSSEC or MTA-STS"
            raise NextExchangerError(Result(Reply(550, "5.7.10", text), str(target)))
        return Security(Level.VERIFY, REQUIRETLS, (target.name,))

    async def _protected(
        self, plan: Plan, target: Target, security: Security, envelope: Envelope, message: Message
    ) -> dict[Address, Result]:
        """One connection; results for those recipients at least whose turn came in it."""
        try:
            return await self._session(plan, target, security, envelope, message)
        except Unprotected as error:
            self._protection.went(plan, target, security, error.result, str(error))
            raise _unprotected(target, security, error, _strict(envelope)) from error
        except TlsFailed as error:
            self._protection.went(plan, target, security, "validation-failure", str(error))
            if security.level is not Level.MAY:
                raise _unprotected(target, security, error, _strict(envelope)) from error
            _log.info("{id}: {target} in clear: {why}", id=envelope.id, target=target, why=error)
            in_clear = Security(Level.NONE, f"TLS failed: {error}")
            return await self._session(plan, target, in_clear, envelope, message)

    async def _session(
        self, plan: Plan, target: Target, security: Security, envelope: Envelope, message: Message
    ) -> dict[Address, Result]:
        kept = await self._connections.take(target, security)
        if kept is not None:
            try:
                return await self._over(kept, envelope, message)
            except (Broken, NextExchangerError) as error:
                if isinstance(error, NextExchangerError) and error.result.reply.code != 421:
                    raise
                _log.debug("{target}: the kept connection is over: {why}", target=target, why=error)
        try:
            connection = await self._connections.open(target, security, await self._password(target))
        except (TlsFailed, Unprotected):
            raise
        except Broken as error:
            raise _elsewhere(target, error) from error
        if connection.problem is not None:
            self._protection.went(plan, target, security, *connection.problem)
        elif connection.dialogue.tls is not None:
            self._protection.went(plan, target, security)
        try:
            return await self._over(connection, envelope, message)
        except Broken as error:
            raise _elsewhere(target, error, connection) from error

    async def _over(
        self, connection: Connection, envelope: Envelope, message: Message
    ) -> dict[Address, Result]:
        """Transactions over a connection, which is kept or ended then."""
        try:
            if _strict(envelope):
                _check_promise(connection)
            results = await self._transactions(connection, envelope, message)
        except BaseException:
            connection.dialogue.quit()
            raise
        connection.clean = connection.dialogue.content_sent
        self._connections.give(connection)
        trust, cipher = connection.trust, connection.cipher
        return {one: replace(result, trust=trust, cipher=cipher) for one, result in results.items()}

    async def _transactions(
        self, connection: Connection, envelope: Envelope, message: Message
    ) -> dict[Address, Result]:
        """As many as the server's limits ask for and its connection is for (RFC 9422)."""
        dialogue, target, offers = connection.dialogue, connection.target, connection.offers
        results: dict[Address, Result] = {}
        groups = client.in_one_session(client.groups(envelope.recipients, offers), offers)
        for group in groups[: max(1, connection.room(len(groups) + connection.messages))]:
            dialogue.content_sent = False
            transaction = Transaction(dialogue, target, offers, self._work, self._reactor.seconds())
            try:
                if results:
                    await dialogue.command(b"RSET\r\n")
                connection.messages += 1
                results |= await transaction.run(envelope.only(group), message)
            except (Broken, NextExchangerError) as error:
                if not results:
                    raise
                dialogue.quit()
                return _interrupted(envelope, error, target, dialogue.tls) | results
        return results

    async def _password(self, target: Target) -> str | None:
        """The password of a route with a login; raise NextExchangerError where there is none."""
        route = target.route
        if route is None or route.user is None:
            return None
        if route.password_file is None:
            password = self._config.credentials.get(f"{route.user}@{route.host}")
        else:
            try:
                password = await self._work.files(_first_line, Path(route.password_file))
            except (OSError, UnicodeDecodeError) as error:
                _log.error("{file}: {why}", file=route.password_file, why=error)
                password = None
        if not password:
            reply = Reply(451, "4.7.8", f"No password is known for {route.user} at {route.host}")
            raise NextExchangerError(Result(reply, str(target)), True)
        return password


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_PASSWORD_FILE).decode().partition("\n")[0].strip()


def _strict(envelope: Envelope) -> bool:
    """Whether TLS is required. A notification that cannot have it goes all the same (RFC 8689 section 5)."""
    return envelope.requiretls and envelope.reverse_path is not None


def _check_promise(connection: Connection) -> None:
    """RFC 8689 section 4.2.1: the server passes the message on no other way."""
    if "REQUIRETLS" not in connection.offers:
        reply = Reply(550, "5.7.30", "REQUIRETLS support required")
        raise NextExchangerError(Result(reply, str(connection.target), connection.dialogue.tls))


def _interrupted(
    envelope: Envelope, error: Exception, target: Target, tls: str | None = None
) -> dict[Address, Result]:
    """What came of the others holds; these wait for the next attempt."""
    reply = Reply(451, "4.4.2", f"After other recipients: {error}")
    return same_for_all(envelope, Result(reply, str(target), tls))


def _unprotected(target: Target, security: Security, error: Broken, strict: bool) -> NextExchangerError:
    if strict:  # this message comes back; nothing is said about others
        return NextExchangerError(Result(Reply(550, "5.7.10", f"Encryption needed: {error}"), str(target)))
    by = f"{security.by}: " if security.by else ""
    return NextExchangerError(Result(Reply(451, "4.7.5", f"{by}{error}"), str(target)), True)


def _elsewhere(target: Target, error: Broken, connection: Connection | None = None) -> NextExchangerError:
    result = Result(Reply(451, "4.4.2", str(error)), str(target))
    if connection is not None:
        result = replace(
            result, tls=connection.dialogue.tls, trust=connection.trust, cipher=connection.cipher
        )
    return NextExchangerError(result, True)
