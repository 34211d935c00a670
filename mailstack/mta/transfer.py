"""Step 3 of the journey: one message to the next MTA (RFC 5321 sections 3.3 and 4.5.4).

Theory of operation. The exchangers of a hop are tried in order. A connection that cannot be made, that
breaks, or a server that refuses to serve (its greeting, EHLO, 421) leads to the next; a reply about the
sender, a recipient or the content is this message's result. TLS is used where it is offered and works, else
the same exchanger is tried again in clear: a certificate could prove nothing about a name from an unsigned
MX record, and mail that waits is worse than mail that is read. Once the content's end is sent and no reply
comes, nobody can tell whether the message was taken: it is tried again later, and the log says that it may
arrive twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from typing import Any

from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.exchangers import Exchangers, Target
from mailstack.mta.result import NextExchangerError, Result, failure, same_for_all
from mailstack.mta.settings import MtaConfig
from mailstack.mta.transaction import Transaction
from mailstack.net.dialogue import Broken, Dialogue, Timeouts, TlsFailed, connect
from mailstack.net.peer import Peer
from mailstack.net.transcript import Transcript
from mailstack.wire.smtp import client
from mailstack.wire.smtp.client import Offers
from mailstack.work import Work

__all__ = ["NextExchangerError", "Result", "Transfer"]

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Tls(Enum):
    """How a message may travel."""

    NONE = auto()  # in clear
    TRIED = auto()  # in TLS where that works, with whoever answers (RFC 7435)
    VERIFIED = auto()  # only in TLS, with a server that proves its name (RFC 8689)


class Transfer:
    """Sends messages to other MTAs."""

    _log = Logger(namespace="mailstack.transfer")

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
    ) -> None:
        self._config = config
        self._hostname = hostname.lower()
        self._exchangers = exchangers
        self._work = work
        self._reactor = reactor
        self._timeouts = timeouts or Timeouts(connect=config.connect_timeout)
        self._transcript = transcript
        self._trust = _trust(config.ca_file)

    def hop(self, domain: str) -> str:
        """What a domain's entries are grouped by."""
        return self._exchangers.hop(domain)

    async def send(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Result]:
        """Try the hop's exchangers in order; a result for each recipient, whatever the peers do."""
        try:
            targets = await self._exchangers.find(hop)
        except Refused as refused:
            return same_for_all(envelope, Result(refused.reply))
        if _strict(envelope) and not (self._config.requiretls_by_mx or self._exchangers.is_certain(hop)):
            # RFC 8689 section 4.2.1: a name from an unsigned MX record proves nothing.
            text = "REQUIRETLS: the mail exchanger's name is not certain without DNSSEC or MTA-STS"
            return same_for_all(envelope, Result(Reply(550, "5.7.10", text)))
        failures: list[Result] = []
        for target in targets:
            try:
                return await self._to(target, envelope, message)
            except NextExchangerError as error:
                self._log.info("{id}: {why}", id=envelope.id, why=error)
                failures.append(error.result)
        # One that may serve us later is a reason to wait; that all refuse for good is none.
        return same_for_all(envelope, next((one for one in failures if one.reply.transient), failures[-1]))

    async def _to(self, target: Target, envelope: Envelope, message: Message) -> dict[Address, Result]:
        if _strict(envelope):
            return await self._all(target, envelope, message, Tls.VERIFIED)
        wanted = Tls.TRIED if self._config.starttls else Tls.NONE
        try:
            return await self._all(target, envelope, message, wanted)
        except TlsFailed as error:
            self._log.info("{id}: {target} in clear: {why}", id=envelope.id, target=target, why=error)
            return await self._all(target, envelope, message, Tls.NONE)

    async def _all(
        self, target: Target, envelope: Envelope, message: Message, tls: Tls
    ) -> dict[Address, Result]:
        """As many connections as the server's MAILMAX asks for (RFC 9422 section 3.1)."""
        results: dict[Address, Result] = {}
        left = envelope.recipients
        while left:
            some = await self._session(target, envelope.only(left), message, tls)
            results |= some
            left = tuple(one for one in left if one.address not in results)
        return results

    async def _session(
        self, target: Target, envelope: Envelope, message: Message, tls: Tls
    ) -> dict[Address, Result]:
        """One connection: results for those recipients at least whose turn came in it."""
        try:
            dialogue = await connect(
                self._reactor, target.address, target.port, self._timeouts, self._transcript
            )
        except Broken as error:
            raise _elsewhere(target, "4.4.1", error) from error
        try:
            offers = await self._greet(dialogue, target)
            if tls is not Tls.NONE and "STARTTLS" in offers:
                offers = await self._secure(dialogue, target, offers, tls)
            if tls is Tls.VERIFIED:
                _check_promise(dialogue, target, offers)
            return await self._transactions(dialogue, target, offers, envelope, message)
        except TlsFailed as error:
            if tls is not Tls.VERIFIED:
                raise
            raise _needs_tls(target, str(error)) from error
        except Broken as error:
            raise _elsewhere(target, "4.4.2", error, dialogue.tls) from error
        finally:
            dialogue.quit()

    async def _transactions(
        self, dialogue: Dialogue, target: Target, offers: Offers, envelope: Envelope, message: Message
    ) -> dict[Address, Result]:
        results: dict[Address, Result] = {}
        groups = client.groups(envelope.recipients, offers)
        for group in groups[: offers.limit("MAILMAX")]:
            now = self._reactor.seconds()
            transaction = Transaction(dialogue, target, offers, self._work, now)
            try:
                if results:
                    await dialogue.command(b"RSET\r\n")
                results |= await transaction.run(envelope.only(group), message)
            except (Broken, NextExchangerError) as error:
                if not results:
                    raise
                # What came of the others holds; these wait for the next attempt.
                reply = Reply(451, "4.4.2", f"After other recipients: {error}")
                return same_for_all(envelope, Result(reply, str(target), dialogue.tls)) | results
        return results

    async def _greet(self, dialogue: Dialogue, target: Target) -> Offers:
        greeting = await dialogue.greeting()
        if not greeting.accepted:  # RFC 7504 section 3: 521, a host that takes no mail, is one of these
            raise NextExchangerError(Result(failure(greeting), str(target), server=target.name))
        return await self._hello(dialogue, target)

    async def _hello(self, dialogue: Dialogue, target: Target) -> Offers:
        reply = await dialogue.command(client.hello(self._hostname, b"LHLO" if target.lmtp else b"EHLO"))
        offers = Offers.read(reply)
        if reply.permanent and dialogue.tls is None and not target.lmtp:
            # RFC 5321 section 3.2: an old server knows HELO.
            reply = await dialogue.command(client.hello(self._hostname, b"HELO"))
            offers = Offers(reply.text.split(" ")[0].lower())
        if not reply.accepted:
            raise NextExchangerError(Result(failure(reply), str(target), dialogue.tls, target.name))
        if offers.name == self._hostname and not target.lmtp:
            loop = Reply(554, "5.4.6", "The server that answers calls itself by our name: a loop")
            raise NextExchangerError(Result(loop, str(target), dialogue.tls))
        return offers

    async def _secure(self, dialogue: Dialogue, target: Target, offers: Offers, tls: Tls) -> Offers:
        reply = await dialogue.command(b"STARTTLS\r\n")
        if not reply.accepted:
            return offers  # RFC 3207 section 4: it may go on without
        await dialogue.start_tls(target.name, self._verified if tls is Tls.VERIFIED else None)
        return await self._hello(dialogue, target)

    def _verified(self, name: str) -> Any:
        """TLS with a server that proves to be `name` (RFC 8689 section 4.2.1)."""
        return optionsForClientTLS(name.strip("[]"), trustRoot=self._trust)


def _trust(file: Path | None) -> Any:
    """Whose signatures prove a server's name; raise OSError, ValueError."""
    if file is None:
        return platformTrust()
    found = [Certificate.loadPEM(text) for text in _PEM.findall(file.read_text())]
    if not found:
        raise ValueError(f"{file} has no certificate")
    return trustRootFromCertificates(found)


def _strict(envelope: Envelope) -> bool:
    """Whether TLS is required. A notification that cannot have it goes all the same (RFC 8689 section 5)."""
    return envelope.requiretls and envelope.reverse_path is not None


def _check_promise(dialogue: Dialogue, target: Target, offers: Offers) -> None:
    """RFC 8689 section 4.2.1: in TLS, and with the promise to pass the message on no other way."""
    if dialogue.tls is None:
        raise _needs_tls(target, "the server does not offer it")
    if "REQUIRETLS" not in offers:
        reply = Reply(550, "5.7.30", "REQUIRETLS support required")
        raise NextExchangerError(Result(reply, str(target), dialogue.tls))


def _needs_tls(target: Target, why: str) -> NextExchangerError:
    return NextExchangerError(Result(Reply(550, "5.7.10", f"Encryption needed: {why}"), str(target)))


def _elsewhere(target: Target, enhanced: str, error: Broken, tls: str | None = None) -> NextExchangerError:
    return NextExchangerError(Result(Reply(451, enhanced, str(error)), str(target), tls))
