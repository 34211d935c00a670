"""The DNS records of a domain: printed, and checked against a name server that says other things."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

import dns.message
import pytest
from click.testing import Result

from mailstack.net.name_server import NameServer
from tests.admin.conftest import Installation

ADDRESS = "93.184.216.34"  # any that is not private
PTR = "34.216.184.93.in-addr.arpa"


class Dns:
    """A name server in a thread; a zone is put in by `says`."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.at = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.says({})
        self.silent = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def says(self, zone: dict[str, Sequence[str]]) -> None:
        """From now on."""
        self._zone = NameServer(None, zone)

    def stop(self) -> None:
        """End the thread."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(65535)
            if not query:
                return
            answer = self._zone.answer(dns.message.from_wire(query))
            if answer and not self.silent:
                self._socket.sendto(answer.to_wire(), client)


@pytest.fixture
def dns_server() -> Iterator[Dns]:
    """One that knows nothing yet."""
    server = Dns()
    yield server
    server.stop()


@pytest.fixture
def checked(installation: Installation, dns_server: Dns) -> Installation:
    """An installation that asks it, with keys."""
    with installation.file.open("a") as file:
        file.write(f'[dns]\nnameservers = ["{dns_server.at}"]\n')
    text = installation.file.read_text()
    installation.file.write_text(
        text.replace("imaps = false", "imaps = 993").replace("smtp = false", "smtp = 25")
    )
    installation.ok("dkim", "add", "example.org", "--selector", "k")
    return installation


def right(installation: Installation) -> dict[str, Sequence[str]]:
    """A zone with all that is asked for, in other words here and there."""
    keys = {
        row["name"]: f'TXT "{row["record"][:200]}" "{row["record"][200:]}"'
        for row in installation.json("dkim", "list")
    }
    return {
        "mail.example.org": [f"A {ADDRESS}"],
        "example.org": [
            "MX 10 Mail.Example.ORG.",
            "MX 5 other.example.",
            'TXT "some-site-verification=1"',
            f'TXT "v=spf1 ip4:{ADDRESS} -all"',
        ],
        "_dmarc.example.org": ['TXT "v=DMARC1; p=reject"'],
        "_smtp._tls.example.org": ['TXT "v=TLSRPTv1; rua=mailto:tls@example.org"'],
        "_imaps._tcp.example.org": ["SRV 7 7 993 mail.example.org."],
        PTR: ["PTR mail.example.org."],
        **{name: [text] for name, text in keys.items()},
    }


def states(installation: Installation, status: int) -> dict[str, tuple[str, str]]:
    """State and what was found of each record, by type and name."""
    lines = check(installation, status).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return {f"{row[3]} {row[2]}": (row[0], row[5]) for row in rows}


def check(installation: Installation, status: int) -> Result:
    result = installation.run("domain", "dns", "example.org", "--check")
    assert result.exit_code == status, result.output
    return result


class TestPrinted:
    def test_what_is_printed_is_what_a_name_server_reads(
        self, checked: Installation, dns_server: Dns
    ) -> None:
        zone: dict[str, list[str]] = {}
        for line in checked.ok("domain", "dns", "Example.ORG").splitlines():
            name, data = line.split(None, 1)
            zone.setdefault(name.removesuffix("."), []).append(data.replace("( ", "").replace(" )", ""))
        zone["mail.example.org"] = [f"A {ADDRESS}"]
        zone[PTR] = ["PTR mail.example.org."]
        dns_server.says(zone)
        found = states(checked, 0)
        assert {state for state, _ in found.values()} == {"ok"}
        assert len(found) == 9

    def test_as_json(self, checked: Installation) -> None:
        rows = checked.json("domain", "dns", "example.org")
        assert [row["value"] for row in rows if row["type"] == "MX"] == ["10 mail.example.org."]
        assert [row["name"] for row in rows if row["type"] == "SRV"] == ["_imaps._tcp.example.org"]

    def test_a_domain_that_is_not_ours(self, checked: Installation) -> None:
        assert "elsewhere.example" in checked.refused("domain", "dns", "elsewhere.example", "--check")


class TestChecked:
    def test_what_serves_the_purpose_is_ok(self, checked: Installation, dns_server: Dns) -> None:
        dns_server.says(right(checked))
        found = states(checked, 0)
        assert {state for state, _ in found.values()} == {"ok"}
        assert found["TXT _dmarc.example.org"] == ("ok", "p=reject of example.org")

    def test_nothing_is_there(self, checked: Installation) -> None:
        result = check(checked, 1)
        assert {line.split("\t")[0] for line in result.stdout.splitlines()} == {"missing"}
        assert "required and not ok: A of mail.example.org, MX of example.org" in result.stderr

    @pytest.mark.parametrize(
        ("name", "records", "key", "state", "words"),
        [
            (
                "mail.example.org",
                ["A 10.1.2.3"],
                "A mail.example.org",
                "differs",
                "10.1.2.3 cannot be reached",
            ),
            ("mail.example.org", [], "A mail.example.org", "missing", "-"),
            ("example.org", ["MX 10 other.example."], "MX example.org", "differs", "other.example"),
            ("example.org", ["MX 0 ."], "MX example.org", "differs", "."),
            ("example.org", ['TXT "v=spf1 ip4:192.0.2.9 -all"'], "TXT example.org", "differs", "fail for"),
            (
                "example.org",
                ['TXT "v=spf1 ip4:192.0.2.9 ~all"'],
                "TXT example.org",
                "differs",
                "softfail for",
            ),
            ("example.org", ['TXT "v=spf1x"'], "TXT example.org", "missing", "-"),
            (
                "kr._domainkey.example.org",
                ['TXT "v=DKIM1; p=AAAA"'],
                "TXT kr._domainkey.example.org",
                "differs",
                "AAAA",
            ),
            (
                "kr._domainkey.example.org",
                ['TXT "no tags"'],
                "TXT kr._domainkey.example.org",
                "differs",
                "no tags",
            ),
            ("_dmarc.example.org", ['TXT "v=DMARC1; p=all"'], "TXT _dmarc.example.org", "differs", "p=none"),
            (
                "_imaps._tcp.example.org",
                ["SRV 0 1 994 mail.example.org."],
                "SRV _imaps._tcp.example.org",
                "differs",
                "994",
            ),
            (PTR, ["PTR host-34.provider.example."], f"PTR {PTR}", "differs", "host-34.provider.example"),
            (PTR, [], f"PTR {PTR}", "missing", "-"),
        ],
    )
    def test_one_is_wrong(
        self,
        checked: Installation,
        dns_server: Dns,
        name: str,
        records: list[str],
        key: str,
        state: str,
        words: str,
    ) -> None:
        zone = right(checked)
        zone[name] = records
        dns_server.says(zone)
        required = not key.startswith(("SRV", "TXT _"))
        found = states(checked, 1 if required else 0)
        assert found[key][0] == state
        assert words in found[key][1]

    def test_no_answer(self, checked: Installation, dns_server: Dns) -> None:
        dns_server.silent = True
        result = checked.run("--set", "dns.lifetime=0.2", "domain", "dns", "example.org", "--check")
        assert result.exit_code == 1
        assert {line.split("\t")[0] for line in result.stdout.splitlines()} == {"unknown"}
