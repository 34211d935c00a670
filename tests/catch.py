"""A next hop that takes whatever it is given, by DATA or BDAT, and keeps it to be looked at."""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
from dataclasses import dataclass, field
from typing import Any

OFFERS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "DSN", "SIZE 60000000")


@dataclass
class Caught:
    """One message: the arguments of its commands, and its content."""

    mail: str
    recipients: list[str] = field(default_factory=list)
    content: bytes = b""
    chunks: int = 0  # by so many BDAT

    @property
    def addresses(self) -> list[str]:
        """Whom it is for."""
        return [one.partition("<")[2].partition(">")[0] for one in self.recipients]


class Catch:
    """Listens on a port of loopback. Recipients whose local-part is `no` are refused, those of `later` put off."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.caught: list[Caught] = []
        catch = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    catch.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        self._server = Server(("127.0.0.1", port), Session)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def serve(self, session: Any) -> None:
        """One connection, to its end."""
        say, read = session.wfile.write, session.rfile
        say(b"220 catch.test ESMTP\r\n")
        taking = Caught("")
        while line := read.readline():
            verb, _, rest = line.decode().strip().partition(" ")
            answer = b"250 2.0.0 Ok\r\n"
            match verb.upper():
                case "EHLO":
                    lines = ["catch.test", *OFFERS]
                    marks = ["-"] * (len(lines) - 1) + [" "]
                    answer = "".join(
                        f"250{mark}{one}\r\n" for mark, one in zip(marks, lines, strict=True)
                    ).encode()
                case "MAIL":
                    taking = Caught(rest)
                case "RCPT":
                    answer = _answer(rest)
                    if answer.startswith(b"250"):
                        taking.recipients.append(rest)
                case "DATA":
                    say(b"354 Go on\r\n")
                    taking.content = _dotted(read)
                    self.caught.append(taking)
                case "BDAT":
                    size, _, last = rest.partition(" ")
                    taking.content += read.read(int(size))
                    taking.chunks += 1
                    if last:
                        self.caught.append(taking)
                case "QUIT":
                    say(b"221 2.0.0 Bye\r\n")
                    return
            say(answer)


def _answer(rest: str) -> bytes:
    if re.match(r"(?i)to:<no@", rest):
        return b"550 5.1.1 No such user\r\n"
    return b"450 4.2.0 Later\r\n" if re.match(r"(?i)to:<later@", rest) else b"250 2.1.5 Ok\r\n"


def _dotted(read: Any) -> bytes:
    content = b""
    while (line := read.readline()) != b".\r\n":
        if not line:
            raise ConnectionError
        content += line.removeprefix(b".")
    return content
