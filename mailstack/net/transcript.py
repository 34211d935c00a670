"""The conversation in the log, line by line, for an operator who wants to see what a client really sends."""

from __future__ import annotations

from twisted.logger import Logger

from mailstack.net.peer import Peer

_log = Logger(namespace="mailstack.conversation")

MAX_LINES = 12  # lines shown of one write or read
MAX_LINE = 200  # characters shown of a line


class Transcript:
    """Logs what one connection receives (C:) and sends (S:), shortened, with passwords masked."""

    def __init__(self, service: str, peer: Peer) -> None:
        self._service = service
        self._peer = f"{peer.address}:{peer.port}"
        self._begun = b""  # a line whose end has not come yet: it may be half a password
        self._secret = False  # what the client says now answers a login's challenge
        self._write("--", f"connected to port {peer.local_port}")

    def received(self, data: bytes) -> None:
        """Bytes came from the client."""
        whole, _, begun = (self._begun + data).rpartition(b"\r\n")
        self._begun = begun[: 4 * MAX_LINE]
        if whole:
            for line in _lines(whole):
                self._write("C:", self._masked(line))

    def sent(self, data: bytes) -> None:
        """Bytes went to the client."""
        if not data.startswith((b"334 ", b"+ ", b"+\r")):
            self._secret = False
        for line in _lines(data.removesuffix(b"\r\n")):
            self._write("S:", line)

    def _masked(self, line: str) -> str:
        words = line.split(" ")
        for position, word in enumerate(words[:2]):
            verb = word.upper()
            if verb in ("AUTH", "AUTHENTICATE"):  # the mechanism's name is no secret
                self._secret = True
                return " ".join(words[: position + 2] + ["***"] * (len(words) > position + 2))
            if verb in ("LOGIN", "PASS"):
                self._secret = True
                return " ".join([*words[: position + 1], "***"])
        return "***" if self._secret else line

    def _write(self, side: str, line: str) -> None:
        _log.info(
            "{service} {peer} {side} {line}", service=self._service, peer=self._peer, side=side, line=line
        )


def _lines(data: bytes) -> list[str]:
    lines = data.decode("utf-8", "backslashreplace").split("\r\n")
    shown = [line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..." for line in lines[:MAX_LINES]]
    if len(lines) > MAX_LINES:
        shown.append(f"({len(lines) - MAX_LINES} more lines, {len(data)} octets in all)")
    return shown
