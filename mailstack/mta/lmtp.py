"""LMTP (RFC 2033): another program, such as an MTA in front of us, hands mail for our users to us.

It is the relay of port 25 with two differences. There is an answer for each recipient after the message,
given when that recipient's copy is in the mailbox, or cannot be; and nothing that is ours is queued, because
whoever speaks LMTP has a queue. An alias that leads elsewhere is the exception: what goes on from here is our
queue's, and so is what a check of the policy has added. There is no login, so only networks that the operator
names may come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.logger import Logger

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope, Recipient
from mailstack.mail.message import Message
from mailstack.mail.reply import LOCAL_ERROR, Replies, Reply
from mailstack.mta.relay import Incoming, IncomingRole
from mailstack.mta.relay_settings import LmtpConfig
from mailstack.net.peer import Peer
from mailstack.net.replies import conclusion
from mailstack.net.transaction import Transaction

_log = Logger(namespace="mailstack.smtp")

DROPPED = Reply(250, "2.0.0", "Ok")  # for who was taken away by a check
NOT_FOR_YOU = Reply(554, "5.7.1", "LMTP is not for your network")


class AtOnce(Protocol):
    """What LMTP asks of the queue."""

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]: ...

    async def deliver(self, envelope: Envelope, message: Message) -> dict[Address, Reply]: ...


class Lmtp(Incoming):
    """Welcomes those who deliver by LMTP."""

    accepts: AtOnce

    def __init__(self, config: LmtpConfig, **surroundings: Any) -> None:
        super().__init__(config, **surroundings)
        self.config = config

    def welcome(self, peer: Peer, say: object) -> LmtpRole:
        """The role for one connection."""
        return LmtpRole(self, peer)


class LmtpRole(IncomingRole):
    """Answers one of them."""

    protocol = "LMTP"
    service = "lmtp"

    def __init__(self, service: Lmtp, peer: Peer) -> None:
        super().__init__(service, peer)
        self._networks = service.config.networks
        self._queue = service.accepts
        self._accepts = self
        self._order: list[str] = []  # what recipients are known by, for each RCPT that was accepted

    async def greet(self) -> Reply:
        """Nobody from outside."""
        if not self.peer.within(self._networks):
            self.record.refused("connection", NOT_FOR_YOU)
            return NOT_FOR_YOU
        return await super().greet()

    def hello(self) -> Sequence[str]:
        """What fits: a promise about time is none where nothing waits."""
        return tuple(word for word in super().hello() if not word.startswith("DELIVERBY"))

    def accepted(self, transaction: Transaction, recipient: Recipient) -> None:
        """Remember the order: a recipient named twice is answered twice (RFC 2033 section 4.2)."""
        if not transaction.recipients:
            self._order = []
        super().accepted(transaction, recipient)
        self._order.append(self.identity(recipient.address))

    def full_house(self, transaction: Transaction) -> bool:
        """Every RCPT is remembered here, so every one counts."""
        most = self._limits.max_recipients
        return bool(transaction.recipients) and len(self._order) >= most

    async def accept(self, envelope: Envelope, message: Message) -> dict[Address, Reply]:
        """Deliver now, or say for each recipient what stands in the way (`Accepts`).

        Nobody waits for an answer about those whom a check has added: they are our queue's. If it cannot take
        them now, nothing is delivered, so that the client's next try does not double what this one did.
        """
        named = tuple(one for one in envelope.recipients if self.identity(one.address) in self._order)
        added = tuple(one for one in envelope.recipients if one not in named)
        answers: dict[Address, Reply] = {}
        if added:
            answers = await self._queue.accept(envelope.only(added), message)
            lost = next((reply for reply in answers.values() if not reply.accepted), None)
            if lost is not None and lost.transient:
                return dict.fromkeys((one.address for one in envelope.recipients), lost)
            if lost is not None:
                _log.warn(
                    "{id}: not for a recipient that a check has added: {reply}",
                    id=envelope.id,
                    reply=str(lost),
                )
        if named:
            answers |= await self._queue.deliver(envelope.only(named), message)
        return answers

    def conclude(self, envelope: Envelope, answers: dict[Address, Reply]) -> Replies:
        """A reply for each; who was taken away by a check hears what became of the message otherwise."""
        known = {self.identity(address): reply for address, reply in answers.items()}
        kept = {self.identity(one.address) for one in envelope.recipients}
        others = {one: reply for one, reply in known.items() if one not in self._order}
        otherwise = conclusion(envelope, others) if others else DROPPED
        replies = [known.get(one, LOCAL_ERROR) if one in kept else otherwise for one in self._order]
        return Replies(tuple(replies))
