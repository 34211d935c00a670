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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Refused, Reply
from mailstack.mta.exchangers import Exchangers, Target
from mailstack.mta.settings import MtaConfig
from mailstack.net.dialogue import Broken, Dialogue, Timeouts, TlsFailed, connect
from mailstack.net.peer import Peer
from mailstack.net.transcript import Transcript
from mailstack.wire.smtp import client
from mailstack.wire.smtp.client import Offers
from mailstack.work import Work

PIPELINED = 50  # commands sent at once where the server offers PIPELINING
_HEADER_LOOKED_AT = 256 * 1024  # octets


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one recipient, and who said so."""

    reply: Reply
    exchanger: str = ""  # "mx.example.org[192.0.2.1]:25"; empty: nobody was reached
    tls: str | None = None
    server: str | None = None  # who the reply is from; None: the words are ours, about what happened there
    dsn: bool = False  # the next hop promised to send what success reports were asked for (RFC 3461)

    def __str__(self) -> str:
        place = " ".join(filter(None, (self.exchanger, self.tls)))
        return f"{place}: {self.reply}" if place else str(self.reply)


class NextExchangerError(Exception):
    """This target does not serve us now; `result` is for all recipients if there is no other."""

    def __init__(self, result: Result) -> None:
        super().__init__(str(result))
        self.result = result


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

    def hop(self, domain: str) -> str:
        """What a domain's entries are grouped by."""
        return self._exchangers.hop(domain)

    async def send(self, hop: str, envelope: Envelope, message: Message) -> dict[Address, Result]:
        """Try the hop's exchangers in order; a result for each recipient, whatever the peers do."""
        try:
            targets = await self._exchangers.find(hop)
        except Refused as refused:
            return _all(envelope, Result(refused.reply))
        failures: list[Result] = []
        for target in targets:
            try:
                return await self._to(target, envelope, message)
            except NextExchangerError as error:
                self._log.info("{id}: {why}", id=envelope.id, why=error)
                failures.append(error.result)
        # One that may serve us later is a reason to wait; that all refuse for good is none.
        return _all(envelope, next((one for one in failures if one.reply.transient), failures[-1]))

    async def _to(self, target: Target, envelope: Envelope, message: Message) -> dict[Address, Result]:
        try:
            return await self._session(target, envelope, message, self._config.starttls)
        except TlsFailed as error:
            self._log.info("{id}: {target} in clear: {why}", id=envelope.id, target=target, why=error)
            return await self._session(target, envelope, message, False)

    async def _session(
        self, target: Target, envelope: Envelope, message: Message, starttls: bool
    ) -> dict[Address, Result]:
        try:
            dialogue = await connect(
                self._reactor, target.address, target.port, self._timeouts, self._transcript
            )
        except Broken as error:
            raise _elsewhere(target, "4.4.1", error) from error
        try:
            offers = await self._greet(dialogue, target)
            if starttls and "STARTTLS" in offers:
                offers = await self._secure(dialogue, target, offers)
            transaction = _Transaction(dialogue, target, offers, self._work)
            return await transaction.run(envelope, message)
        except TlsFailed:
            raise
        except Broken as error:
            raise _elsewhere(target, "4.4.2", error, dialogue.tls) from error
        finally:
            dialogue.quit()

    async def _greet(self, dialogue: Dialogue, target: Target) -> Offers:
        greeting = await dialogue.greeting()
        if not greeting.accepted:
            raise NextExchangerError(Result(_failure(greeting), str(target), server=target.name))
        return await self._hello(dialogue, target)

    async def _hello(self, dialogue: Dialogue, target: Target) -> Offers:
        reply = await dialogue.command(client.hello(self._hostname))
        offers = Offers.read(reply)
        if reply.permanent and dialogue.tls is None:  # RFC 5321 section 3.2: an old server knows HELO
            reply = await dialogue.command(client.hello(self._hostname, extended=False))
            offers = Offers(reply.text.split(" ")[0].lower())
        if not reply.accepted:
            raise NextExchangerError(Result(_failure(reply), str(target), dialogue.tls, target.name))
        if offers.name == self._hostname:
            loop = Reply(554, "5.4.6", "The server that answers calls itself by our name: a loop")
            raise NextExchangerError(Result(loop, str(target), dialogue.tls))
        return offers

    async def _secure(self, dialogue: Dialogue, target: Target, offers: Offers) -> Offers:
        reply = await dialogue.command(b"STARTTLS\r\n")
        if not reply.accepted:
            return offers  # RFC 3207 section 4: it may go on without
        await dialogue.start_tls(target.name)
        return await self._hello(dialogue, target)


@dataclass(frozen=True, slots=True)
class _Transaction:
    """MAIL, RCPT and DATA over a connection that has been greeted."""

    dialogue: Dialogue
    target: Target
    offers: Offers
    work: Work

    async def run(self, envelope: Envelope, message: Message) -> dict[Address, Result]:
        size = message.size
        limit = self.offers.size
        if limit is not None and size > limit:
            text = f"Message of {size} octets; the server takes {limit}"
            return _all(envelope, self._ours(Reply(552, "5.3.4", text)))
        parameters = await self._parameters(envelope, message)
        mail = client.mail(envelope, size, self.offers, *parameters)
        rcpts = [client.rcpt(recipient, self.offers) for recipient in envelope.recipients]
        mail_reply, replies = await self._envelope(mail, rcpts)
        if not mail_reply.accepted:
            return _all(envelope, self._result(_failure(mail_reply)))
        results = {
            recipient.address: self._result(_failure(reply))
            for recipient, reply in zip(envelope.recipients, replies, strict=True)
        }
        accepted = [
            recipient for recipient, reply in zip(envelope.recipients, replies, strict=True) if reply.accepted
        ]
        if accepted:
            result = await self._content(message)
            results |= {recipient.address: result for recipient in accepted}
        return results

    async def _parameters(self, envelope: Envelope, message: Message) -> tuple[str, bool]:
        """BODY and SMTPUTF8 as this message needs them; raise NextExchangerError if not offered."""
        body, smtputf8 = envelope.body, envelope.smtputf8
        if body == "BINARYMIME":
            raise self._cannot("5.6.3", "The message is binary, and goes over no server that we can reach")
        if smtputf8 and "SMTPUTF8" not in self.offers:
            header = await self.work.files(_header, message)
            smtputf8 = client.needs_smtputf8(envelope) or not header.isascii()
            if smtputf8:
                raise self._cannot("5.6.7", "The server does not take addresses or header fields in UTF-8")
        if body != "7BIT" and "8BITMIME" not in self.offers:
            if not await self.work.files(_is_ascii, message):
                raise self._cannot("5.6.3", "The message has 8-bit content, which the server does not take")
            body = "7BIT"
        return body, smtputf8

    async def _envelope(self, mail: bytes, rcpts: Sequence[bytes]) -> tuple[Reply, list[Reply]]:
        """The replies to MAIL and to each RCPT; where MAIL was refused, nothing about the others matters."""
        if "PIPELINING" not in self.offers:
            reply = await self.dialogue.command(mail)
            _still_there(reply, self.target, self.dialogue)
            replies = []
            for rcpt in rcpts if reply.accepted else ():
                replies.append(await self.dialogue.command(rcpt))
                _still_there(replies[-1], self.target, self.dialogue)
            return reply, replies
        lines = iter([mail, *rcpts])
        replies = []
        while group := list(islice(lines, PIPELINED)):
            replies += await self.dialogue.pipeline(group)
        for reply in replies:
            _still_there(reply, self.target, self.dialogue)
        return replies[0], replies[1:]

    async def _content(self, message: Message) -> Result:
        reply = await self.dialogue.command(b"DATA\r\n", self.dialogue.timeouts.data)
        _still_there(reply, self.target, self.dialogue)
        if reply.code != 354:
            return self._result(_unexpected(reply) if reply.accepted else _failure(reply))
        try:
            reply = await self.dialogue.send_content(message, self.work)
        except Broken as error:
            if not self.dialogue.content_sent:
                raise
            # RFC 5321 section 4.5.3.2.6 and RFC 1047: it may have been taken, and is not sent elsewhere now.
            text = f"{error} after the end of the content; it may have been taken"
            return self._ours(Reply(451, "4.4.2", text))
        return self._result(_failure(reply), "DSN" in self.offers)

    def _result(self, reply: Reply, dsn: bool = False) -> Result:
        return Result(reply, str(self.target), self.dialogue.tls, self.target.name, dsn)

    def _ours(self, reply: Reply) -> Result:
        return Result(reply, str(self.target), self.dialogue.tls)

    def _cannot(self, enhanced: str, text: str) -> NextExchangerError:
        return NextExchangerError(self._ours(Reply(554, enhanced, text)))


def _all(envelope: Envelope, result: Result) -> dict[Address, Result]:
    return {recipient.address: result for recipient in envelope.recipients}


def _failure(reply: Reply) -> Reply:
    """A reply with an enhanced code of its class, for the queue and a bounce; 3xx makes no sense here."""
    if reply.accepted or reply.transient or reply.permanent:
        return reply if reply.enhanced else replace(reply, enhanced=f"{reply.code // 100}.0.0")
    return _unexpected(reply)


def _unexpected(reply: Reply) -> Reply:
    return Reply(451, "4.5.0", f"Unexpected reply: {reply}")


def _still_there(reply: Reply, target: Target, dialogue: Dialogue) -> None:
    """RFC 5321 section 3.8: 421 to any command ends the session."""
    if reply.code == 421:
        raise NextExchangerError(Result(_failure(reply), str(target), dialogue.tls, target.name))


def _elsewhere(target: Target, enhanced: str, error: Broken, tls: str | None = None) -> NextExchangerError:
    return NextExchangerError(Result(Reply(451, enhanced, str(error)), str(target), tls))


def _is_ascii(message: Message) -> bool:
    return all(chunk.isascii() for chunk in message.chunks())


def _header(message: Message) -> bytes:
    header = b""
    for chunk in message.chunks():
        header += chunk
        end = header.find(b"\r\n\r\n")
        if end >= 0:
            return header[:end]
        if len(header) > _HEADER_LOOKED_AT:
            break
    return header
