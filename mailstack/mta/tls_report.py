"""A TLS report in words (RFC 8460): the TXT record, the JSON, the mail that carries it, and reading them."""

from __future__ import annotations

import base64
import binascii
import datetime
import email
import email.policy
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_JSON = 10_000_000  # octets of a report, uncompressed
MOST_RUA = 10
MEDIA = "application/tlsrpt+gzip"
_TEXT = 300  # characters of a field that is shown


class BadReport(Exception):
    """What was read is no TLS report; the text says why."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often something came out at one exchanger on one day, under one policy."""

    policy: str  # policy-type
    strings: tuple[str, ...]
    patterns: tuple[str, ...]
    exchanger: str
    address: str
    result: str  # "" went well
    reason: str
    sessions: int


@dataclass(frozen=True, slots=True)
class Received:
    """A report that somebody sent us."""

    organization: str
    id: str
    begins: str
    ends: str
    domains: tuple[str, ...]
    good: int  # sessions
    bad: int
    content: bytes  # the JSON


def rua(records: Iterable[bytes]) -> tuple[str, ...]:
    """Where a domain wants its reports (RFC 8460 section 3): mailto: and https: URIs."""
    ours = [text for text in records if re.match(rb"v=TLSRPTv1[ \t]*;", text)]
    if len(ours) != 1:
        return ()
    found: list[str] = []
    for field in ours[0].decode("ascii", "replace").split(";")[1:]:
        key, _, value = field.partition("=")
        if key.strip() == "rua":
            found += [uri.strip() for uri in value.split(",")]
    return tuple(uri for uri in found if re.match(r"(mailto:|https://)", uri, re.IGNORECASE))[:MOST_RUA]


def compose(
    organization: str, contact: str, report_id: str, day: str, domain: str, counts: Sequence[Count]
) -> bytes:
    """The JSON (RFC 8460 section 4)."""
    policies: dict[tuple[str, tuple[str, ...]], list[Count]] = {}
    for count in counts:
        policies.setdefault((count.policy, count.strings), []).append(count)
    report = {
        "organization-name": organization,
        "date-range": {"start-datetime": f"{day}T00:00:00Z", "end-datetime": f"{day}T23:59:59Z"},
        "contact-info": contact,
        "report-id": report_id,
        "policies": [_policy(kind, strings, domain, some) for (kind, strings), some in policies.items()],
    }
    return json.dumps(report, indent=1).encode()


def _policy(kind: str, strings: tuple[str, ...], domain: str, counts: Sequence[Count]) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": kind, "policy-domain": domain}
    if strings:
        policy["policy-string"] = list(strings)
    if counts[0].patterns:
        policy["mx-host"] = list(counts[0].patterns)
    failures = [count for count in counts if count.result]
    return {
        "policy": policy,
        "summary": {
            "total-successful-session-count": sum(count.sessions for count in counts if not count.result),
            "total-failure-session-count": sum(count.sessions for count in failures),
        },
        "failure-details": [
            {
                "result-type": count.result,
                "receiving-mx-hostname": count.exchanger,
                "receiving-ip": count.address,
                "failed-session-count": count.sessions,
                "failure-reason-code": count.reason,
            }
            for count in failures
        ],
    }


def name(organization: str, domain: str, day: str) -> str:
    """The file's name (RFC 8460 section 5.1)."""
    begin = int(datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
    return f"{organization}!{domain}!{begin}!{begin + 86399}.json.gz"


def compress(content: bytes) -> bytes:
    """As gzip, the same for the same content."""
    return gzip.compress(content, mtime=0)


def mail(
    organization: str, sender: str, to: str, domain: str, day: str, report_id: str, date: str, content: bytes
) -> bytes:
    """The message that carries a report (RFC 8460 section 5.3); `content` is the JSON."""
    boundary = "tlsrpt." + re.sub(r"[^A-Za-z0-9]", "", report_id)[:40]
    encoded = base64.encodebytes(compress(content)).decode().replace("\n", "\r\n")
    file = name(organization, domain, day)
    text = (
        f"From: {sender}\r\nTo: {to}\r\nDate: {date}\r\nMessage-ID: <{report_id}>\r\n"
        f"Subject: Report Domain: {domain} Submitter: {organization} Report-ID: <{report_id}>\r\n"
        f"TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {organization}\r\n"
        "TLS-Required: No\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"\r\n\r\n'
        f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        f"How TLS went from {organization} to {domain} on {day} (RFC 8460).\r\n\r\n"
        f"--{boundary}\r\nContent-Type: {MEDIA}\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment;\r\n filename="{file}"\r\n\r\n{encoded}\r\n--{boundary}--\r\n'
    )
    return text.encode("ascii", "replace")


# Reading.


def read(data: bytes) -> Received:
    """A report in any form: JSON, gzip, or the mail it came in; raise BadReport."""
    if data[:2] == b"\x1f\x8b":
        return _read_json(_decompress(data))
    if data.lstrip()[:1] == b"{":
        return _read_json(data)
    return _from_mail(data)


def _from_mail(data: bytes) -> Received:
    try:
        message = email.message_from_bytes(data, policy=email.policy.compat32)
        parts = [part for part in message.walk() if part.get_content_type().startswith("application/tlsrpt")]
        payload = parts[0].get_payload(decode=True) if parts else None
    except (ValueError, LookupError, binascii.Error) as error:
        raise BadReport("the mail cannot be read") from error
    if not isinstance(payload, bytes):
        raise BadReport("the mail carries no TLS report")
    return _read_json(_decompress(payload) if payload[:2] == b"\x1f\x8b" else payload)


def _decompress(data: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        content = inflate.decompress(data, MAX_JSON + 1)
    except zlib.error as error:
        raise BadReport("not gzip after all") from error
    if len(content) > MAX_JSON:
        raise BadReport(f"more than {MAX_JSON} octets")
    return content


def _read_json(content: bytes) -> Received:
    if len(content) > MAX_JSON:
        raise BadReport(f"more than {MAX_JSON} octets")
    try:
        report = json.loads(content)
        policies = [one for one in report["policies"][:1000] if isinstance(one, dict)]
        dates = report["date-range"]
        return Received(
            organization=_shown(report.get("organization-name", "")),
            id=_shown(report["report-id"]),
            begins=_shown(dates["start-datetime"]),
            ends=_shown(dates["end-datetime"]),
            domains=tuple(dict.fromkeys(_domain(one) for one in policies)),
            good=sum(_count(one, "total-successful-session-count") for one in policies),
            bad=sum(_count(one, "total-failure-session-count") for one in policies),
            content=content,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadReport("not a TLS report in JSON") from error


def _shown(value: Any) -> str:
    """Text that a terminal may see."""
    return re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]", "?", str(value))[:_TEXT]


def _domain(policy: dict[str, Any]) -> str:
    return re.sub(r"\s", "", _shown(policy["policy"]["policy-domain"]))


def _count(policy: dict[str, Any], key: str) -> int:
    value = policy.get("summary", {}).get(key, 0)
    return min(max(value, 0), 1 << 53) if isinstance(value, int) else 0
