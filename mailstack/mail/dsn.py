"""Delivery status notifications: what became of a message, for people and for programs (RFC 3462, RFC 3464).

Theory of operation. A report has three parts: words for a person, fields for a program, and the message it is
about, or its header section. Where an address needs UTF-8, the fields and the returned message are of the
"global" types (RFC 6533). Only a return address that is in UTF-8 itself makes the report need SMTPUTF8; to
any other it goes in seven bits, because nobody could be told that a report was not taken.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate

from mailstack.mail.address import Address
from mailstack.mail.reply import Reply

MAX_HEADER = 64 * 1024  # octets of a returned header section

_SUBJECTS = {
    "failed": "Not delivered: your message",
    "delayed": "Delayed: your message",
    "delivered": "Delivered: your message",
    "relayed": "Passed on: your message",
    "expanded": "Passed on: your message",
}
_WORDS = {
    "failed": "Your message could not be delivered to:",
    "delayed": "Your message has not been delivered yet; we keep trying, there is nothing to do. It is for:",
    "delivered": "Your message was delivered to:",
    "relayed": "Your message was passed on to a server that sends no reports of delivery, for:",
    "expanded": "Your message was passed on to all for whom this address stands; no report comes of them:",
}
_MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t\r\n]*(<[\x21-\x7e]{1,250}>)")
_ENHANCED = re.compile(r"[245](?:\.(?:0|[1-9][0-9]{0,2})){2}")  # RFC 3464 section 2.3.4: no leading zeros
_EMBEDDED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Status:
    """What became of one recipient. Times are seconds of the epoch."""

    recipient: Address
    action: str  # failed, delayed, delivered, relayed, expanded (RFC 3464 section 2.3.3)
    reply: Reply
    orcpt: str | None = None  # "rfc822;bob@example.org"
    remote: str | None = None  # the host that gave the reply; None: the words are ours
    last_attempt: float | None = None
    will_retry_until: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that a notification says."""

    id: str  # the notification's own queue id
    hostname: str  # ours
    to: Address
    now: float  # seconds of the epoch
    arrived: float
    envid: str | None
    statuses: tuple[Status, ...]
    original: bytes  # the message or its header section
    full: bool  # which of them
    log_id: str = ""  # the queue id of the message
    received_from: str | None = None  # who gave it to us: HELO, and address in brackets and parentheses
    deliver_by: float | None = None  # until when its sender wanted it delivered (RFC 2852)
    hold_until: float | None = None  # before when they did not want it sent (RFC 4865)

    @property
    def utf8(self) -> bool:
        """Whether it needs the types of RFC 6533."""
        ascii_only = self.to.is_ascii and all(status.recipient.is_ascii for status in self.statuses)
        return not ascii_only or not _header(self.original).isascii()

    @property
    def smtputf8(self) -> bool:
        """Whether it can only travel with SMTPUTF8."""
        return not self.to.is_ascii


def compose(report: Report) -> bytes:
    """The whole notification, with CRLF line ends (RFC 3464 section 2)."""
    boundary = f"=_report_{report.id}"
    original = _original(report)
    parts = [_text(report), _fields(report), original]
    content = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts)
    return _head(report, boundary) + content + b"--%s--\r\n" % boundary.encode()


def _head(report: Report, boundary: str) -> bytes:
    lines = [
        f"From: Mail Delivery System <MAILER-DAEMON@{report.hostname}>",
        f"To: <{report.to}>",
        f"Subject: {_SUBJECTS[report.statuses[0].action]}",
        f"Date: {formatdate(report.now)}",
        f"Message-ID: <{report.id}@{report.hostname}>",
    ]
    original_id = _MESSAGE_ID.search(_header(report.original))
    if original_id:
        lines += [f"In-Reply-To: {original_id[1].decode()}", f"References: {original_id[1].decode()}"]
    lines += [
        "Auto-Submitted: auto-replied",  # RFC 3834 section 5
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f'\tboundary="{boundary}"',
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def _text(report: Report) -> bytes:
    lines = [f"This is the mail server {report.hostname}.", ""]
    for action in dict.fromkeys(status.action for status in report.statuses):
        lines += [_WORDS[action], ""]
        for status in report.statuses:
            if status.action == action:
                lines += _about(status)
    if any(status.action == "failed" for status in report.statuses):
        lines.append(
            "Please check the address, or ask the recipient by other means. Your message is attached."
        )
    return _part("text/plain; charset=utf-8", "\r\n".join([*lines, ""]).encode(), report)


def _part(kind: str, data: bytes, report: Report) -> bytes:
    """One part; in seven bits where what else it needs may be missing on the way (RFC 6533 section 4.5)."""
    encoding = b""
    if not data.isascii():
        plain = (
            report.smtputf8 or kind == "message/rfc822"
        )  # which must not be encoded: RFC 2046 section 5.2.1
        encoding = b"Content-Transfer-Encoding: %s\r\n" % (b"8bit" if plain else b"base64")
        data = data if plain else base64.encodebytes(data).replace(b"\n", b"\r\n")
    return b"Content-Type: %s\r\n%s\r\n%s" % (kind.encode(), encoding, data)


def _about(status: Status) -> list[str]:
    lines = [f"  <{status.recipient}>"]
    if status.action in ("failed", "delayed"):
        who = f"The server {status.remote} said" if status.remote else "The reason"
        lines += [f"    {who}:", *(f"    {line}" for line in _wrapped(_one_line(str(status.reply))))]
    if status.will_retry_until is not None:
        lines.append(f"    We try until {formatdate(status.will_retry_until)}.")
    return [*lines, ""]


def _wrapped(text: str, width: int = 70) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def _fields(report: Report) -> bytes:
    """The machine's part (RFC 3464 sections 2.2 and 2.3)."""
    kind = "global-delivery-status" if report.utf8 else "delivery-status"
    per_message = [f"Reporting-MTA: dns; {report.hostname}"]
    if report.envid is not None:
        per_message.insert(0, f"Original-Envelope-Id: {_one_line(report.envid)}")
    if report.received_from:  # RFC 3464 section 2.2.4
        per_message.append(f"Received-From-MTA: dns; {_one_line(report.received_from)}")
    per_message.append(f"Arrival-Date: {formatdate(report.arrived)}")
    if report.deliver_by is not None:  # RFC 2852 section 5
        per_message.append(f"Deliver-By-Date: {formatdate(report.deliver_by)}")
    if report.hold_until is not None:  # RFC 4865 section 5.1.2, whichever way the time was given
        until = datetime.fromtimestamp(int(report.hold_until), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        per_message.append(f"Future-Release-Request: until;{until}")
    groups = [per_message, *(_recipient_fields(status, report) for status in report.statuses)]
    text = "\r\n\r\n".join("\r\n".join(group) for group in groups) + "\r\n"
    # RFC 3464 section 2.1: without the global type it is in seven bits.
    data = text.encode() if report.utf8 else text.encode("ascii", "backslashreplace")
    return _part(f"message/{kind}", data, report)


def _recipient_fields(status: Status, report: Report) -> list[str]:
    fields = []
    if status.orcpt:
        kind, _, address = status.orcpt.partition(";")
        if kind.lower() == "utf-8":
            address = _from_seven_bits(address) if report.utf8 else _in_seven_bits(address)
        fields.append(f"Original-Recipient: {_one_line(kind)};{_one_line(address)}")
    address_type = "rfc822" if status.recipient.is_ascii else "utf-8"
    fields.append(f"Final-Recipient: {address_type};{status.recipient}")
    fields.append(f"Action: {status.action}")
    fields.append(f"Status: {_code(status)}")
    if status.remote:
        fields.append(f"Remote-MTA: dns; {_one_line(status.remote)}")
    if status.remote or status.action in ("failed", "delayed"):
        kind = "smtp" if status.remote else "x-mailstack"  # RFC 3464 section 2.3.6: whose words they are
        fields.append(f"Diagnostic-Code: {kind}; {_folded(_one_line(str(status.reply)))}")
    if status.last_attempt is not None:
        fields.append(f"Last-Attempt-Date: {formatdate(status.last_attempt)}")
    if report.log_id:
        fields.append(f"Final-Log-ID: {report.log_id}")
    if status.will_retry_until is not None:
        fields.append(f"Will-Retry-Until: {formatdate(status.will_retry_until)}")
    return fields


def _code(status: Status) -> str:
    """The status code, of the class that the action has (RFC 3464 section 2.3.4)."""
    wanted = {"failed": "5", "delayed": "4"}.get(status.action, "2")
    enhanced = status.reply.enhanced
    if not _ENHANCED.fullmatch(enhanced):
        return f"{wanted}.0.0"
    if wanted == "5" and enhanced[0] == "4":
        return enhanced  # RFC 3464 section 2.3.4 allows it for what expired
    return wanted + enhanced[1:]


def _original(report: Report) -> bytes:
    """The third part: the message, or its header section (RFC 3462 section 2)."""
    if report.full:
        kind = "message/global" if report.utf8 else "message/rfc822"
        data = report.original
    else:
        kind = "message/global-headers" if report.utf8 else "text/rfc822-headers"
        data = _header(report.original)[:MAX_HEADER]
    if not data.endswith(b"\r\n"):
        data += b"\r\n"
    return _part(kind, data, report)


def _header(message: bytes) -> bytes:
    end = message.find(b"\r\n\r\n")
    return message if end < 0 else message[: end + 2]


def _from_seven_bits(text: str) -> str:
    """An address of the type utf-8 as it is (RFC 6533 section 3); one that names no characters stays."""
    try:
        found = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
        found.encode()  # a half of a surrogate pair is no character
        return found
    except (ValueError, OverflowError):
        return text


def _in_seven_bits(text: str) -> str:
    return "".join(one if one.isascii() else f"\\x{{{ord(one):X}}}" for one in text)


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text).strip()


def _folded(text: str) -> str:
    """Long text over several lines of at most 900 octets, as a field may be (RFC 5322 section 2.2.3)."""
    return "\r\n ".join(_wrapped(text, 200)) if len(text) > 200 else text
