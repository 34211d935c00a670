"""A mail program's end of a conversation, in the open: every line said is shown, the password apart."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mailstack.admin.journey.screen import Screen

PATIENCE = 30.0  # seconds for any one answer
SHOWN = 6  # lines shown of a message


class Unexpected(Exception):
    """The server said something else than the step needs; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a person types into a mail program."""

    address: str
    password: str
    server: str  # as its certificate names it
    ca: Path
    ports: dict[str, int]

    def context(self) -> ssl.SSLContext:
        """TLS that trusts this account's own authority and nobody else."""
        return ssl.create_default_context(cafile=str(self.ca))


class Client:
    """One connection to loopback. A context manager; raises Unexpected, OSError, ssl.SSLError."""

    def __init__(self, screen: Screen, account: Account, service: str, *, tls: bool) -> None:
        self._screen = screen
        self.account = account
        port = account.ports[service]
        screen.line("*", f"connect to {account.server} port {port}{', TLS' if tls else ''}")
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        if tls:
            self._wrap()
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._socket.close()

    def say(self, line: str, shown: str | None = None) -> None:
        """Send a line; `shown` stands for it on the screen."""
        self._screen.line("C", line if shown is None else shown)
        self._socket.sendall(line.encode() + b"\r\n")

    def say_message(self, message: bytes) -> None:
        """Send a message as DATA wants it (RFC 5321 section 4.5.2)."""
        lines = message.removesuffix(b"\r\n").split(b"\r\n")
        stuffed = [b"." + line if line.startswith(b".") else line for line in lines]
        self._socket.sendall(b"\r\n".join([*stuffed, b".", b""]))
        self._show_message("C", lines)
        self._screen.line("C", ".")

    def hear(self, expected: Sequence[str]) -> str:
        """Read a line and show it; raise Unexpected unless it begins as one of `expected`."""
        line = self._line().decode("utf-8", "replace")
        self._screen.line("S", line)
        if not line.startswith(tuple(expected)):
            raise Unexpected(line)
        return line

    def reply(self, code: str) -> list[str]:
        """An SMTP reply of one line or more (RFC 5321 section 4.2)."""
        lines = [self.hear([code])]
        while lines[-1][3:4] == "-":
            lines.append(self.hear([code]))
        return lines

    def hear_message(self) -> bytes:
        """A multi-line POP3 answer after its +OK (RFC 1939 section 3), shown in part."""
        lines = []
        while (line := self._line()) != b".":
            lines.append(line.removeprefix(b"."))
        self._show_message("S", lines)
        self._screen.line("S", ".")
        return b"\r\n".join([*lines, b""])

    def tagged(self, tag: str, command: str, shown: str | None = None) -> list[bytes]:
        """Say an IMAP command; return its untagged lines, literals (unshown but for their start) included."""
        self.say(f"{tag} {command}", None if shown is None else f"{tag} {shown}")
        answers: list[bytes] = []
        while True:
            line = self._line()
            while line.endswith(b"}") and b"{" in line:
                line += b"\r\n" + self._literal(line) + self._line()
            text = line.decode("utf-8", "replace")
            if text.startswith(f"{tag} "):
                self._screen.line("S", text)
                if not text.startswith(f"{tag} OK"):
                    raise Unexpected(text)
                return answers
            self._show_message("S", line.split(b"\r\n"))
            answers.append(line)

    def secure(self) -> None:
        """TLS on the open connection, with the server's certificate checked."""
        self._file.close()
        self._wrap()
        self._file = self._socket.makefile("rb")

    def _wrap(self) -> None:
        secured = self.account.context().wrap_socket(self._socket, server_hostname=self.account.server)
        self._socket = secured
        cipher = secured.cipher()
        spoken = f"{secured.version()} {cipher[0] if cipher else ''}"
        self._screen.line("*", f"{spoken}, certificate of {self.account.server} verified")

    def _line(self) -> bytes:
        line = self._file.readline(1 << 20)
        if not line.endswith(b"\n"):
            raise Unexpected("(the server closed the connection)")
        return line.rstrip(b"\r\n")

    def _literal(self, line: bytes) -> bytes:
        return self._file.read(int(line.rpartition(b"{")[2].rstrip(b"}")))

    def _show_message(self, side: str, lines: Sequence[bytes]) -> None:
        for line in lines[:SHOWN]:
            self._screen.line(side, line.decode("utf-8", "replace"))
        if len(lines) > SHOWN:
            self._screen.line(side, f"... {len(lines) - SHOWN} more lines")


def plain(account: Account) -> str:
    """The SASL PLAIN initial response (RFC 4616)."""
    return base64.b64encode(f"\0{account.address}\0{account.password}".encode()).decode()
