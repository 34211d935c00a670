"""What we say to a client that brings us mail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mailstack.mail.envelope import Envelope
from mailstack.mail.reply import LOCAL_ERROR, Reply

TOO_BIG = Reply(552, "5.3.4", "Message is too big")
HEADER_TOO_BIG = Reply(552, "5.3.4", "Header section is too big")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients; send to the others in another transaction")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors; closing")
NO_ROOM = Reply(452, "4.3.1", "Out of disk space; try again later")
TOO_SOON = Reply(555, "5.5.4", "BY asks for less time than we need")  # RFC 2852 section 3
LOOP = Reply(554, "5.4.6", "Mail loop: too many Received fields")
NO_AUTH = Reply(502, "5.5.1", "Authentication is not offered here")
GO_AHEAD = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
OK = Reply(250, "2.0.0", "Ok")
READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
CANNOT_VERIFY = Reply(252, "2.0.0", "Cannot verify; send the message and see")
NO_LISTS = Reply(502, "5.5.1", "Lists are not shown")
HELP = Reply(214, "2.0.0", "See https://www.rfc-editor.org/rfc/rfc5321")


def as_greeting(refusal: Reply) -> Reply:
    """The refusal with one of the codes that a greeting may have (RFC 5321 section 4.3.2): 421 or 554."""
    return replace(refusal, code=421 if refusal.transient else 554)


def conclusion(envelope: Envelope, replies: dict[Any, Reply]) -> Reply:
    """The one reply that SMTP has for all recipients: taken if any was, else later if any may be, else no."""
    if any(reply.accepted for reply in replies.values()):
        return queued(envelope)
    for reply in replies.values():
        if reply.transient:
            return reply
    return next(iter(replies.values()), LOCAL_ERROR)


def queued(envelope: Envelope) -> Reply:
    """The words of 250 to a message."""
    return Reply(250, "2.0.0", f"Ok: queued as {envelope.id}")
