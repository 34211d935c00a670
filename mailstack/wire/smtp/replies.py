"""What the SMTP session itself answers, when what was said is wrong whoever the server is."""

from __future__ import annotations

from mailstack.mail.reply import Reply

UNKNOWN = Reply(500, "5.5.1", "Command not recognized")
BAD_OCTETS = Reply(500, "5.5.2", "Only CRLF ends a line, and commands are text")
TOO_LONG = Reply(500, "5.5.6", "Line too long")
OUT_OF_SEQUENCE = Reply(503, "5.5.1", "Bad sequence of commands")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
NOT_OFFERED = Reply(502, "5.5.1", "Command not implemented")
ALREADY_AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
NEEDS_SMTPUTF8 = Reply(553, "5.6.7", "Address is not ASCII, and SMTPUTF8 was not given with MAIL")
NO_RECIPIENTS_LMTP = Reply(503, "5.5.1", "No valid recipients")  # RFC 2033 section 4.2
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "BINARYMIME content comes by BDAT")  # RFC 3030 section 3
NULL_OCTET = Reply(550, "5.6.0", "Message contains a null octet")
BARE_LINE_END = Reply(550, "5.6.11", "Message contains a bare CR or LF; lines end with CRLF only")
AUTH_FAILURE = Reply(454, "4.7.0", "Temporary authentication failure; try again later")


def syntax(text: str) -> Reply:
    """501: the command is right, its arguments are not."""
    return Reply(501, "5.5.4", text)


def unsupported(parameter: str) -> Reply:
    """555: a parameter of MAIL or RCPT that we do not know (RFC 5321 section 4.1.1.11)."""
    return Reply(555, "5.5.4", f"Parameter not supported: {parameter[:40]}")
