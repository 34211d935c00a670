"""Clients that count what they were sent: an answer is known by the octets of its connection up to its end."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from base64 import b64encode
from contextlib import suppress

from tests.crash.promises import Mark, Promises
from tests.running import PATIENCE, free_ports

_LITERAL = re.compile(rb"\{(\d+)\}\r\n$")
_SUBJECT = re.compile(rb"^Subject: (\S+)\r\n", re.MULTILINE)


class Wire:
    """A connection to the server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._file = self._socket.makefile("rb")
        self._key = (port, self._socket.getsockname()[1])
        self._octets = 0

    @property
    def mark(self) -> Mark:
        """All that was read up to now."""
        return self._key, self._octets

    def say(self, data: bytes) -> None:
        """Send octets."""
        self._socket.sendall(data)

    def line(self) -> bytes:
        """One line. Fails where the server has closed the connection."""
        line = self._file.readline()
        assert line.endswith(b"\n"), f"the connection ended: {line!r}"
        self._octets += len(line)
        return line

    def response(self) -> bytes:
        """One line with the literals in it (IMAP)."""
        found = self.line()
        while match := _LITERAL.search(found):
            literal = self._file.read(int(match[1]))
            self._octets += len(literal)
            found += literal + self.line()
        return found

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


class Smtp(Wire):
    """SMTP, after EHLO."""

    def __init__(self, port: int, login: tuple[str, str] | None = None) -> None:
        super().__init__(port)
        self.reply()
        self.command("EHLO client.test")
        if login is not None:
            word = b64encode("\0{}\0{}".format(*login).encode()).decode()
            self.command(f"AUTH PLAIN {word}")

    def reply(self) -> bytes:
        """One reply, its last line; fails unless it is 2xx or 3xx."""
        while (line := self.line())[3:4] == b"-":
            pass
        assert line[:1] in b"23", line
        return line

    def command(self, text: str) -> bytes:
        """One command and its reply."""
        self.say(text.encode() + b"\r\n")
        return self.reply()

    def send(self, sender: str, recipients: list[str], message: bytes, how: str = "data") -> Mark:
        """One message, by "data", "pipelined" or "bdat"; the mark of the last answer."""
        lines = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients)]
        if how == "bdat":
            half = len(message) // 2
            self.say("".join(f"{line}\r\n" for line in lines).encode() + b"BDAT %d\r\n" % half)
            self.say(message[:half] + b"BDAT %d LAST\r\n" % (len(message) - half) + message[half:])
            for _ in (*lines, 1, 2):
                self.reply()
            return self.mark
        if how == "pipelined":
            self.say("".join(f"{line}\r\n" for line in (*lines, "DATA")).encode())
            for _ in (*lines, "DATA"):
                self.reply()
        else:
            for line in (*lines, "DATA"):
                self.command(line)
        self.say(message + b".\r\n")
        self.reply()
        return self.mark


class Imap(Wire):
    """IMAP, logged in."""

    def __init__(self, port: int, address: str, password: str) -> None:
        super().__init__(port)
        self.line()
        self._count = 0
        self.command(f"LOGIN {address} {password}")

    def command(self, text: str, *literals: bytes) -> list[bytes]:
        """One command, ``{}`` in its text for each literal; all responses. Fails unless it is answered OK."""
        self._count += 1
        tag = b"a%d" % self._count
        *parts, last = text.encode().split(b"{}")
        self.say(tag + b" ")
        found: list[bytes] = []
        for part, literal in zip(parts, literals, strict=True):
            self.say(part + b"{%d}\r\n" % len(literal))
            while not (line := self.response()).startswith(b"+"):
                found.append(line)
                assert not line.startswith(tag), line
            self.say(literal)
        self.say(last + b"\r\n")
        while not found or not found[-1].startswith(tag + b" "):
            found.append(self.response())
        assert found[-1].startswith(tag + b" OK"), found[-1]
        return found


class Pop3(Wire):
    """POP3, logged in."""

    def __init__(self, port: int, address: str, password: str) -> None:
        super().__init__(port)
        self.line()
        self.command(f"USER {address}")
        self.command(f"PASS {password}")

    def command(self, text: str) -> bytes:
        """One command with an answer of one line; fails unless that is +OK."""
        self.say(text.encode() + b"\r\n")
        line = self.line()
        assert line.startswith(b"+OK"), line
        return line

    def lines(self, text: str) -> list[bytes]:
        """One command with an answer of many lines."""
        self.command(text)
        found = []
        while (line := self.line()) != b".\r\n":
            found.append(line)
        return found


class NextHop:
    """An SMTP server that promises take note of; those called nobody are unknown to it. It listens once it is opened."""

    def __init__(self, promises: Promises) -> None:
        [self.port] = free_ports(1)
        self._promises = promises
        self._server: socketserver.ThreadingTCPServer | None = None

    def open(self) -> None:
        """Listen."""
        hop = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):
                    hop._serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            request_queue_size = 100

        self._server = Server(("127.0.0.1", self.port), Session)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _serve(self, session: socketserver.StreamRequestHandler) -> None:
        key, octets = (session.client_address[1], self.port), 0
        recipients: list[str] = []
        session.wfile.write(b"220 hop.test ESMTP\r\n")
        while line := session.rfile.readline():
            octets += len(line)
            verb = line[:4].upper()
            if verb == b"EHLO":
                session.wfile.write(b"250-hop.test\r\n250 PIPELINING\r\n")
            elif verb == b"RCPT":
                recipient = line.partition(b"<")[2].partition(b">")[0].decode()
                if recipient.startswith("nobody"):
                    session.wfile.write(b"550 5.1.1 Nobody\r\n")
                else:
                    recipients.append(recipient)
                    session.wfile.write(b"250 Ok\r\n")
            elif verb == b"DATA" and not recipients:
                session.wfile.write(b"554 Nobody\r\n")
            elif verb == b"DATA":
                session.wfile.write(b"354 Go on\r\n")
                content = b""
                while (line := session.rfile.readline()) != b".\r\n":
                    if not line:
                        return
                    octets += len(line)
                    content += line
                octets += len(line)
                found = _SUBJECT.search(content)
                assert found is not None
                for recipient in recipients:
                    self._promises.take(found[1].decode(), recipient, (key, octets))
                recipients = []
                session.wfile.write(b"250 Ok\r\n")
            elif verb == b"QUIT":
                session.wfile.write(b"221 Bye\r\n")
                return
            else:
                session.wfile.write(b"250 Ok\r\n")
