"""One transaction with the next hop: MAIL, RCPT, DATA (RFC 5321 section 3.3).

Theory of operation. What the message needs (8-bit content, UTF-8 in addresses) must be among the server's
offers; where it is not, the message goes to no server like this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta.exchangers import Target
from mailstack.mta.result import NextExchangerError, Result, failure, same_for_all, unexpected
from mailstack.net.dialogue import Broken, Dialogue
from mailstack.wire.smtp import client
from mailstack.wire.smtp.client import Offers
from mailstack.work import Work

PIPELINED = 50  # commands sent at once where the server offers PIPELINING
_HEADER_LOOKED_AT = 256 * 1024  # octets


@dataclass(frozen=True, slots=True)
class Transaction:
    """MAIL, RCPT and DATA over a connection that has been greeted."""

    dialogue: Dialogue
    target: Target
    offers: Offers
    work: Work

    async def run(self, envelope: Envelope, message: Message) -> dict[Address, Result]:
        """A result for each recipient; raise NextExchangerError, Broken."""
        size = message.size
        limit = self.offers.size
        if limit is not None and size > limit:
            text = f"Message of {size} octets; the server takes {limit}"
            return same_for_all(envelope, self._ours(Reply(552, "5.3.4", text)))
        parameters = await self._parameters(envelope, message)
        mail = client.mail(envelope, size, self.offers, *parameters)
        rcpts = [client.rcpt(recipient, self.offers) for recipient in envelope.recipients]
        mail_reply, replies = await self._envelope(mail, rcpts)
        if not mail_reply.accepted:
            return same_for_all(envelope, self._result(failure(mail_reply)))
        results = {
            recipient.address: self._result(failure(reply))
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
            return self._result(unexpected(reply) if reply.accepted else failure(reply))
        try:
            reply = await self.dialogue.send_content(message, self.work)
        except Broken as error:
            if not self.dialogue.content_sent:
                raise
            # RFC 5321 section 4.5.3.2.6 and RFC 1047: it may have been taken, and is not sent elsewhere now.
            text = f"{error} after the end of the content; it may have been taken"
            return self._ours(Reply(451, "4.4.2", text))
        return self._result(failure(reply), "DSN" in self.offers)

    def _result(self, reply: Reply, dsn: bool = False) -> Result:
        return Result(reply, str(self.target), self.dialogue.tls, self.target.name, dsn)

    def _ours(self, reply: Reply) -> Result:
        return Result(reply, str(self.target), self.dialogue.tls)

    def _cannot(self, enhanced: str, text: str) -> NextExchangerError:
        return NextExchangerError(self._ours(Reply(554, enhanced, text)))


def _still_there(reply: Reply, target: Target, dialogue: Dialogue) -> None:
    """RFC 5321 section 3.8: 421 to any command ends the session."""
    if reply.code == 421:
        raise NextExchangerError(Result(failure(reply), str(target), dialogue.tls, target.name))


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
