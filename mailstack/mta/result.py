"""What became of a message at the next hop."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mailstack.mail.address import Address
from mailstack.mail.envelope import Envelope
from mailstack.mail.reply import Reply

# What a code says by itself, where the server gives no enhanced one (RFC 7504 sections 3 and 4).
_MEANINGS = {521: "5.3.2", 556: "5.1.10"}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one recipient, and who said so."""

    reply: Reply
    exchanger: str = ""  # "mx.example.org[192.0.2.1]:25"; empty: nobody was reached
    tls: str | None = None  # "TLSv1.3"; None: in clear
    server: str | None = None  # who the reply is from; None: the words are ours, about what happened there
    dsn: bool = False  # the next hop promised to send what success reports were asked for (RFC 3461)
    by: bool = True  # it keeps to DELIVERBY, if that was asked for (RFC 2852)
    trust: str = ""  # why TLS was used as it was: "verified by DANE-EE", "STARTTLS is not offered"
    cipher: str = ""

    def __str__(self) -> str:
        tls = " ".join(filter(None, (self.tls, self.cipher)))
        if self.trust:
            tls = f"{tls or 'in clear'} ({self.trust})"
        place = " ".join(filter(None, (self.exchanger, tls)))
        return f"{place}: {self.reply}" if place else str(self.reply)


class NextExchangerError(Exception):
    """This target does not serve us now; `result` is for all recipients if there is no other."""

    def __init__(self, result: Result, unreachable: bool = False) -> None:
        super().__init__(str(result))
        self.result = result
        self.unreachable = unreachable  # no matter for which message


def same_for_all(envelope: Envelope, result: Result) -> dict[Address, Result]:
    """`result` for every recipient."""
    return {recipient.address: result for recipient in envelope.recipients}


def not_tried(down: Result) -> Result:
    """What is said of mail for a hop that is left alone now, because of `down`."""
    reply = Reply(451, down.reply.enhanced, f"Not tried now; the last failure: {down.reply.text}")
    return Result(reply, down.exchanger)


def failure(reply: Reply) -> Reply:
    """A reply with an enhanced code of its class, for the queue and a bounce; 3xx makes no sense here."""
    if not (reply.accepted or reply.transient or reply.permanent):
        return unexpected(reply)
    if reply.enhanced:
        return reply
    return replace(reply, enhanced=_MEANINGS.get(reply.code, f"{reply.code // 100}.0.0"))


def unexpected(reply: Reply) -> Reply:
    """What a reply counts as that nobody could expect here."""
    return Reply(451, "4.5.0", f"Unexpected reply: {reply}")
