"""What the log and the trail are told about the mail of one client."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger

from mailstack.mail.envelope import Envelope
from mailstack.mail.message import Message
from mailstack.mail.reply import Reply
from mailstack.net import checks, trace
from mailstack.net.peer import Peer
from mailstack.net.transaction import MOST_LOGGED, Reception, Transaction
from mailstack.trail.notes import CHECKED, DROPPED, RECEIVED, REFUSED, message_id_of
from mailstack.wire.smtp import events

_log = Logger(namespace="mailstack.smtp")


class Record:
    """Keeps it, in words; `login` is whom the client has proved to be, `trusted` why it need not."""

    __slots__ = ("_inspection", "_peer", "_reception", "login", "trusted")

    def __init__(self, peer: Peer, reception: Reception, inspection: checks.Inspection | None) -> None:
        self._peer = peer
        self._reception = reception
        self._inspection = inspection
        self.login: str | None = None
        self.trusted: str | None = None  # the network for whose sake no login is asked

    def refused(self, what: str, reply: Reply, **fields: Any) -> None:
        """A connection, a hello, a sender, a recipient or a message."""
        _log.info(
            "{what} refused from {peer}: {reply}", what=what, reply=str(reply), **self._client(), **fields
        )
        if "sender" not in fields:
            return  # a connection, before there was any message
        id_, recipients = fields.get("id"), fields.get("recipient", fields.get("recipients"))
        if id_ is None:
            id_ = self._reception.names.new()  # refused before it had a name
        about = fields.get("recipient") or str(fields.get("sender", "")).strip("<>")
        self._reception.trail.note(
            id_,
            REFUSED,
            about,
            fields.get("message_id"),
            what=what,
            reply=str(reply),
            sender=fields.get("sender"),
            recipients=recipients,
            verdicts=(self._inspection.verdicts() if self._inspection else []) or None,
            **self._client(),
        )

    def refused_message(self, transaction: Transaction, reply: Reply) -> None:
        """Under its Message-ID, its sender, and each of those who do not get it."""
        message_id = message_id_of(transaction.content.header())
        about = {"message_id": message_id} if message_id else {}
        self.refused("message", reply, **transaction.described(), **about)
        for one in list(transaction.recipients.values())[:MOST_LOGGED]:
            self._reception.trail.note(
                transaction.id, REFUSED, one.address, what="message", reply=str(reply), **self._client()
            )

    def checked(self, envelope: Envelope) -> None:
        """What the checks said of a message that they did not refuse."""
        verdicts = self._inspection.verdicts() if self._inspection else []
        if verdicts:
            self._reception.trail.note(envelope.id, CHECKED, None, verdicts=verdicts)

    def dropped(self, envelope: Envelope, transaction: Transaction) -> None:
        """A check took a message away."""
        _log.info(
            "{id}: message from {peer} discarded: {sender} to {recipients}, {size} octets",
            **self._client(),
            **transaction.described(),
        )
        self._reception.trail.note(envelope.id, DROPPED, envelope.reverse_path or "", why="by a check")

    def received(
        self, envelope: Envelope, message: Message, header: bytes, helo: events.Helo | None, protocol: str
    ) -> None:
        """A message is whole."""
        added = message.parts[0]
        message_id = message_id_of(added) if isinstance(added, bytes) else None
        self._reception.trail.note(
            envelope.id,
            RECEIVED,
            envelope.reverse_path or "",
            message_id or message_id_of(header),
            **self._client(),
            helo=helo.domain if helo else None,
            tls=self._peer.tls,
            protocol=trace.transmission(
                protocol if helo and helo.extended else "SMTP",
                self._peer.secure,
                envelope.authenticated is not None,
                envelope.smtputf8,
            ),
            port=self._peer.local_port,
            recipients=[str(one.address) for one in envelope.recipients[:MOST_LOGGED]],
            size=message.size,
        )

    def accepted(self, transaction: Transaction, reply: Reply) -> None:
        """It is ours."""
        _log.info(
            "{id}: message accepted from {peer}: {sender} to {recipients}, {size} octets",
            reply=str(reply),
            **self._client(),
            **transaction.described(),
        )

    def _client(self) -> dict[str, str]:
        peer = {"peer": self._peer.address}
        if self.login:
            return {**peer, "login": self.login}
        return {**peer, "trusted": self.trusted} if self.trusted else peer
