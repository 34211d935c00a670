"""The DNS records that a domain of ours needs: the one list that `init` and `domain dns` print and check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailstack.net.settings import ListenersConfig
from mailstack.signing.verbs import KeyInfo, zone_data

ANY_ADDRESS = "192.0.2.1"  # stands for one that we cannot know (RFC 5737)

# RFC 6186 and RFC 8314: TLS from the first byte first, and IMAP before POP3.
_SERVICES = (
    ("submissions", 0),
    ("submission", 5),
    ("imaps", 0),
    ("imap", 5),
    ("pop3s", 10),
    ("pop3", 15),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its name without the last dot, and its data in the words of a zone file."""

    name: str
    type: str
    value: str
    why: str
    required: bool = False  # mail would not come in, or not be taken elsewhere, without it

    def zone(self, width: int = 0) -> str:
        """As a line of a zone file; the name takes `width` columns."""
        return f"{self.name + '.':<{width}}  {self.type:<4} {self.value}"


def wanted(
    domain: str, hostname: str, listeners: ListenersConfig, keys: Sequence[KeyInfo], now: float
) -> list[Record]:
    """All records of `domain`, whose mail the host `hostname` takes; `now` is in seconds of the epoch."""
    target = f"{hostname}."
    records = [
        Record(hostname, "A", ANY_ADDRESS, "where this host is; AAAA too where it has IPv6", True),
        Record(domain, "MX", f"10 {target}", "mail for the domain comes here (RFC 5321)", True),
        Record(domain, "TXT", '"v=spf1 mx -all"', "who may send as the domain (RFC 7208)", True),
    ]
    for key in keys:
        if (state := key.state(now)) != "over":
            why = f"a key that is {state} (RFC 6376)"
            records.append(Record(key.name, "TXT", zone_data(key), why, state != "retired"))
    dmarc = f'"v=DMARC1; p=none; rua=mailto:postmaster@{domain}"'
    records.append(Record(f"_dmarc.{domain}", "TXT", dmarc, "large providers ask for one (RFC 9989)"))
    tls = f'"v=TLSRPTv1; rua=mailto:postmaster@{domain}"'
    records.append(Record(f"_smtp._tls.{domain}", "TXT", tls, "others report on TLS to us (RFC 8460)"))
    for service, preference in _SERVICES:
        if port := getattr(listeners, service):
            value = f"{preference} 1 {port} {target}"
            name = f"_{service}._tcp.{domain}"
            records.append(Record(name, "SRV", value, "mail programs look here (RFC 6186)"))
    return records


def zone_lines(records: Sequence[Record]) -> list[str]:
    """The records as lines of a zone file, their columns aligned as far as long names allow."""
    width = max((len(record.name) + 1 for record in records if len(record.name) < 48), default=0)
    return [record.zone(width) for record in records]
