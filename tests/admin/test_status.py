"""status: what it tells of an installation that runs, half runs, or does not."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailstack.admin.certificate import make_certificates
from mailstack.admin.status import probe
from mailstack.net.settings import ListenerConfig
from tests.admin.conftest import Installation


class Greeter:
    """A server on a free port of loopback that says one thing to each who connects, then waits for them to go."""

    def __init__(self, words: bytes, context: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._words = words
        self._context = context
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    if self._context:
                        connection = self._context.wrap_socket(connection, server_side=True)
                    connection.sendall(self._words)
                    if self._words:
                        connection.recv(1)
                except OSError:
                    pass
                connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def greeter() -> Iterator[Callable[..., int]]:
    made: list[Greeter] = []

    def make(words: bytes, context: ssl.SSLContext | None = None) -> int:
        made.append(Greeter(words, context))
        return made[-1].port

    yield make
    for one in made:
        one.close()


def service(port: int, tls: bool = False) -> ListenerConfig:
    return ListenerConfig("smtp", port, ("",), tls)


class TestProbe:
    @pytest.mark.parametrize(
        ("words", "answers", "greeting"),
        [
            (b"220 mx.example.org ESMTP\r\n", True, "220 mx.example.org ESMTP"),
            (b"220-mx.example.org\r\n220 more\r\n", True, "220-mx.example.org"),
            (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", True, "* OK [CAPABILITY IMAP4rev1] ready"),
            (b"+OK POP3 <1@x>\r\n", True, "+OK POP3 <1@x>"),
            (b"554 no service\r\n", False, "554 no service"),
            (b"HTTP/1.1 400 Bad Request\r\n", False, "HTTP/1.1 400 Bad Request"),
            (b"", False, "closed without a greeting"),
            (b"220 " + b"x" * 100_000, True, "220 " + "x" * 508),
        ],
    )
    def test_greetings(self, greeter: Callable[..., int], words: bytes, answers: bool, greeting: str) -> None:
        [found] = probe([service(greeter(words))])
        assert (found.answers, found.greeting) == (answers, greeting)

    def test_tls(self, greeter: Callable[..., int], tmp_path: Path) -> None:
        make_certificates(tmp_path, "localhost", ["localhost"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        secure, plain = greeter(b"* OK ready\r\n", context), greeter(b"* OK ready\r\n")
        found = probe([service(secure, True), service(plain, True)])
        assert [one.answers for one in found] == [True, False]
        assert found[0].greeting == "* OK ready"

    def test_nobody_there(self) -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        [found] = probe([service(port)])
        assert (found.answers, found.greeting) == (False, "Connection refused")

    def test_a_port_that_is_chosen_at_the_start(self) -> None:
        [found] = probe([service(0)])
        assert not found.answers

    def test_none(self) -> None:
        assert probe([]) == []


class TestReport:
    def test_all_well(self, alice: Installation, greeter: Callable[..., int]) -> None:
        port = greeter(b"220 mail.example.org\r\n")
        report = alice.json("--set", f"listeners.smtp={port}", "status", "--check")
        assert report["ok"] is True
        assert report["version"].startswith("0.")
        assert report["database"]["current"] is True
        assert report["counts"] == {
            "domains": 1, "users": 1, "aliases": 0, "mailboxes": 6, "messages": 0, "octets": 0, "queue": 0, "held": 0,
        }  # fmt: skip
        assert report["listeners"] == [
            {
                "service": "smtp",
                "address": "127.0.0.1",
                "port": port,
                "tls": False,
                "answers": True,
                "greeting": "220 mail.example.org",
            }
        ]
        assert report["data"]["free"] > 0

    def test_in_lines(self, alice: Installation) -> None:
        lines = dict(line.split("\t") for line in alice.ok("status", "--check").splitlines())
        assert lines["all well"] == "yes"
        assert lines["users"] == "1"
        assert lines["hostname"] == "mail.example.org"

    def test_no_listener_answers(self, alice: Installation) -> None:
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        override = ("--set", f"listeners.imap={port}")
        result = alice.run(*override, "status", "--json")
        assert result.exit_code == 3
        assert json.loads(result.stdout)["ok"] is False
        assert result.stderr == ""
        result = alice.run(*override, "status", "--check")
        assert result.exit_code == 3
        assert f"imap\t127.0.0.1:{port} does not answer: Connection refused\n" in result.stdout
        assert result.stderr == "mailstack: the server is not running\n"

    def test_one_listener_does_not_answer(self, alice: Installation, greeter: Callable[..., int]) -> None:
        ports = greeter(b"220 mail.example.org\r\n"), greeter(b"")
        sets = ("--set", f"listeners.smtp={ports[0]}", "--set", f"listeners.imap={ports[1]}")
        result = alice.run(*sets, "status", "--check")
        assert (result.exit_code, result.stderr) == (4, "mailstack: no answer from imap\n")

    def test_no_database(self, installation: Installation) -> None:
        (installation.folder / "data" / "mailstack.db").unlink()
        result = installation.run("status", "--json")
        assert result.exit_code == 5
        report = json.loads(result.stdout)
        assert (report["ok"], report["database"]["reachable"], report["counts"]) == (False, False, None)
        assert "mailstack db upgrade" in report["database"]["error"]
        assert not (installation.folder / "data" / "mailstack.db").exists()

    def test_a_password_in_the_url_is_not_shown(self, installation: Installation) -> None:
        url = 'database.url="postgresql+psycopg://mail:sesame@127.0.0.1:1/x?connect_timeout=1"'
        result = installation.run("--set", url, "status", "--json")
        assert "sesame" not in result.output
        assert '"reachable": false' in result.stdout
