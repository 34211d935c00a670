"""A next hop that counts what it took, and now and then loses its answer."""

from __future__ import annotations

import contextlib
import re
import socketserver
import threading
from collections import Counter

_SUBJECT = re.compile(rb"^Subject: (\S+)\r\n", re.MULTILINE)


class Sink:
    """An SMTP server on loopback. Every `unanswered`-th message is taken, and the connection closed unanswered."""

    def __init__(self, port: int, unanswered: int = 0) -> None:
        self.port = port
        self.taken: Counter[str] = Counter()  # by the Subject
        self.unanswered: Counter[str] = Counter()
        self._every = unanswered
        self._lock = threading.Lock()
        sink = self

        class Session(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    sink.serve(self)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            request_queue_size = 100

        self._server = Server(("127.0.0.1", port), Session)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def serve(self, session: socketserver.StreamRequestHandler) -> None:
        """One connection, to its end."""
        session.wfile.write(b"220 sink.test ESMTP\r\n")
        while line := session.rfile.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                session.wfile.write(b"250-sink.test\r\n250 PIPELINING\r\n")
            elif verb == b"DATA":
                session.wfile.write(b"354 Go on\r\n")
                if not self._take(session):
                    return
            elif verb == b"QUIT":
                session.wfile.write(b"221 Bye\r\n")
                return
            else:
                session.wfile.write(b"250 Ok\r\n")

    def _take(self, session: socketserver.StreamRequestHandler) -> bool:
        """One message; whether the session goes on."""
        content = b""
        while (line := session.rfile.readline()) != b".\r\n":
            if not line:
                return False  # without its end it is no message
            content += line
        found = _SUBJECT.search(content)
        assert found is not None
        name = found[1].decode()
        with self._lock:
            self.taken[name] += 1
            number = sum(self.taken.values())
        if self._every and number % self._every == 0:
            self.unanswered[name] += 1
            return False
        session.wfile.write(b"250 Ok\r\n")
        return True
