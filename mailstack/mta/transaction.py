"""One transaction with the next hop: MAIL, RCPT, and the content by DATA or BDAT.

Theory of operation. What the message needs (8-bit or binary content, UTF-8 in addresses, TLS all the way, a
time limit) must be among the server's offers; where it is not, the message goes to no server like this one,
and is neither damaged nor sent in a way that its sender forbade. Content goes by DATA, line ends made CRLF;
only binary content goes by BDAT, as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.mta.exchangers import Target
from mailstack.mta.result import NextExchangerError, Result, failure, same_for_all, unexpected
from mailstack.net.dialogue import DATA, Broken, Dialogue
from mailstack.wire.smtp import client
from mailstack.wire.smtp.client import Offers
from mailstack.work import Work

PIPELINED = 50  # commands sent at once where the server offers PIPELINING
NOT_ASKED = Reply(451, "4.4.2", "The server was too slow to be asked for this recipient, too")
_HEADER_LOOKED_AT = 256 * 1024  # octets
_MOST_LINE = 998  # octets of a line of text without its CRLF (RFC 5322 section 2.1.1)


@dataclass(frozen=True, slots=True)
class Transaction:
    """MAIL, RCPT and content over a connection that has been greeted."""

    dialogue: Dialogue
    target: Target
    offers: Offers
    work: Work
    now: float  # seconds of the epoch

    async def run(self, envelope: Envelope, message: Message) -> dict[Address, Result]:
        """A result for each recipient; raise NextExchangerError, Broken."""
        size = message.size
        limit = self.offers.size
        if limit is not None and size > limit:
            text = f"Message of {size} octets; the server takes {limit}"
            return same_for_all(envelope, self._ours(Reply(552, "5.3.4", text)))
        by_time = self._by_time(envelope)
        body, smtputf8 = await self._parameters(envelope, message)
        requiretls = envelope.requiretls and "REQUIRETLS" in self.offers
        mail = client.mail(
            envelope, size, self.offers, body, smtputf8, requiretls=requiretls, by_time=by_time
        )
        by = envelope.deliver_by
        rcpts = [client.rcpt(recipient, self.offers, by) for recipient in envelope.recipients]
        binary = body == "BINARYMIME"
        mail_reply, replies, go_ahead = await self._envelope(mail, rcpts, with_data=not binary)
        if go_ahead is not None and not any(reply.accepted for reply in replies):
            await self._send_nothing(go_ahead)
        if not mail_reply.accepted:
            return same_for_all(envelope, self._result(failure(mail_reply)))
        answered = list(zip(envelope.recipients, replies, strict=True))
        refused = [(recipient.address, failure(reply)) for recipient, reply in answered if not reply.accepted]
        results = {address: self._result(reply) for address, reply in refused}
        accepted = [recipient for recipient, reply in answered if reply.accepted]
        if accepted:
            results |= await self._content(accepted, message, binary, go_ahead)
        return results

    def _by_time(self, envelope: Envelope) -> int:
        """The seconds left by DELIVERBY; raise NextExchangerError where the server cannot keep to it."""
        by = envelope.deliver_by
        if by is None:
            return 0
        left = int(by.deadline - self.now)
        if by.returned and "DELIVERBY" not in self.offers:
            raise self._cannot("5.3.3", "The server makes no promise about the time of delivery")
        if by.returned and left < max(1, self.offers.shortest_by_time):
            raise self._cannot("5.4.7", "The server cannot deliver in the time that is left")
        return left

    async def _parameters(self, envelope: Envelope, message: Message) -> tuple[str, bool]:
        """BODY and SMTPUTF8 as this message needs them; raise NextExchangerError if not offered."""
        body, smtputf8 = envelope.body, envelope.smtputf8
        if body == "BINARYMIME" and not ("BINARYMIME" in self.offers and "CHUNKING" in self.offers):
            if not await self.work.files(_is_text, message):  # RFC 3030 section 3
                raise self._cannot("5.6.3", "The message has binary content, which the server does not take")
            body = "8BITMIME"
        if smtputf8 and "SMTPUTF8" not in self.offers:
            header = await self.work.files(_header, message)
            smtputf8 = client.needs_smtputf8(envelope) or not header.isascii()
            if smtputf8:
                raise self._cannot("5.6.7", "The server does not take addresses or header fields in UTF-8")
        if body == "8BITMIME" and "8BITMIME" not in self.offers:
            if not await self.work.files(_is_ascii, message):
                raise self._cannot("5.6.3", "The message has 8-bit content, which the server does not take")
            body = "7BIT"
        return body, smtputf8

    async def _envelope(
        self, mail: bytes, rcpts: Sequence[bytes], with_data: bool
    ) -> tuple[Reply, list[Reply], Reply | None]:
        """The replies to MAIL, to each RCPT, and to DATA where that went with them.

        Where MAIL was refused, nothing about the others matters.
        """
        if "PIPELINING" not in self.offers:
            reply = await self.dialogue.command(mail)
            self._still_there(reply)
            replies: list[Reply] = []
            for rcpt in rcpts if reply.accepted else ():
                if self.dialogue.is_worn and any(one.accepted for one in replies):
                    replies.append(NOT_ASKED)  # those who were taken get their mail, these come next time
                    continue
                replies.append(await self.dialogue.command(rcpt))
                self._still_there(replies[-1])
            return reply, replies, None
        # RFC 2920 section 3.1: DATA may be the last of a group.
        with_data = with_data and len(rcpts) + 2 <= PIPELINED
        lines = [mail, *rcpts, *([DATA] if with_data else [])]
        replies = []
        for start in range(0, len(lines), PIPELINED):
            replies += await self.dialogue.pipeline(lines[start : start + PIPELINED])
            for reply in replies[: len(rcpts) + 1]:
                self._still_there(reply)
            if not replies[0].accepted:
                break
        if replies[0].accepted and len(replies) <= len(rcpts):
            self.dialogue.check()
        go_ahead = replies.pop() if with_data and len(replies) == len(lines) else None
        return replies[0], replies[1:], go_ahead

    async def _send_nothing(self, go_ahead: Reply) -> None:
        """RFC 2920 section 3.1: a server may say 354 though it took no recipient; it gets no content."""
        if go_ahead.code != 354:
            return
        if self.target.lmtp:  # there would be a reply for each recipient: none
            self.dialogue.abort()
            return
        try:
            await self.dialogue.command(b".\r\n")
        except Broken:
            pass  # what was said of the recipients holds

    async def _content(
        self, recipients: Sequence[Recipient], message: Message, binary: bool, go_ahead: Reply | None
    ) -> dict[Address, Result]:
        """What came of the content: in LMTP for each recipient, else the same for all."""
        number = len(recipients) if self.target.lmtp else 1
        try:
            if binary:
                replies = await self.dialogue.send_chunk(message, self.work, number)
            else:
                replies = await self._data(message, number, go_ahead)
        except Broken as error:
            if not self.dialogue.content_sent:
                raise
            # RFC 5321 section 4.5.3.2.6 and RFC 1047: it may have been taken, and is not sent elsewhere now.
            text = f"{error} after the end of the content; it may have been taken"
            return {one.address: self._ours(Reply(451, "4.4.2", text)) for one in recipients}
        if not self.target.lmtp:
            replies = replies[:1] * len(recipients)
        results = [self._verdict(reply) for reply in replies]
        if len(results) < len(recipients):  # in LMTP what was said of some holds, whatever happened then
            broken = self._ours(Reply(451, "4.4.2", "Connection lost after the end of the content"))
            results += [broken] * (len(recipients) - len(results))
        return {recipient.address: result for recipient, result in zip(recipients, results, strict=True)}

    async def _data(self, message: Message, number: int, reply: Reply | None) -> list[Reply]:
        if reply is None:
            reply = await self.dialogue.command(DATA, self.dialogue.timeouts.data)
        self._still_there(reply)
        if reply.code != 354:
            return [unexpected(reply) if reply.accepted else failure(reply)] * number
        return await self.dialogue.send_content(message, self.work, number)

    def _verdict(self, reply: Reply) -> Result:
        """What the server says at the end."""
        offers = self.offers
        return self._result(
            reply if reply.accepted else failure(reply), "DSN" in offers, "DELIVERBY" in offers
        )

    def _result(self, reply: Reply, dsn: bool = False, by: bool = True) -> Result:
        return Result(reply, str(self.target), self.dialogue.tls, self.target.name, dsn, by)

    def _ours(self, reply: Reply) -> Result:
        return Result(reply, str(self.target), self.dialogue.tls)

    def _cannot(self, enhanced: str, text: str) -> NextExchangerError:
        return NextExchangerError(self._ours(Reply(554, enhanced, text)))

    def _still_there(self, reply: Reply) -> None:
        """RFC 5321 section 3.8: 421 to any command ends the session."""
        if reply.code == 421:
            raise NextExchangerError(self._result(failure(reply)))


def _is_ascii(message: Message) -> bool:
    return all(chunk.isascii() for chunk in message.chunks())


def _is_text(message: Message) -> bool:
    """Whether binary content is text after all: short lines that end with CRLF, no null octet."""
    begun = b""
    for chunk in message.chunks():
        *lines, begun = (begun + chunk).split(b"\r\n")
        if b"\0" in chunk or b"\n" in begun or b"\r" in begun[:-1] or len(begun) > _MOST_LINE + 1:
            return False
        if any(len(line) > _MOST_LINE or b"\r" in line or b"\n" in line for line in lines):
            return False
    return b"\r" not in begun and len(begun) <= _MOST_LINE


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
