"""The journey's own DNS, in a thread of this process: it answers for both domains, and remembers it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import dns.message

from mailstack.net.name_server import NameServer


class RecordingNameServer(NameServer):
    """A name server that keeps each question with its answers, as lines."""

    def __init__(self, reactor: Any, zone: dict[str, list[str]]) -> None:
        super().__init__(reactor, zone)
        self.asked: list[tuple[str, list[str]]] = []

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """Answer, and remember it."""
        response = super().answer(query)
        if response is not None and query.question:
            records = [line for found in response.answer for line in found.to_text().splitlines()]
            self.asked.append((query.question[0].to_text(), records))
        return response


class Names:
    """The running name server. It lives as long as the process: a reactor cannot be started twice."""

    def __init__(self, domains: Sequence[str]) -> None:
        # Imported here: whoever only reads the command's help needs no reactor.
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread

        running: Any = reactor
        self._server = RecordingNameServer(running, zone(domains))
        run = threading.Thread(target=running.run, args=(False,), name="names", daemon=True)
        run.start()
        blockingCallFromThread(running, self._server.startService)
        self.address = f"127.0.0.1:{self._server.port}"

    def asked(self, name: str, record: str) -> list[str] | None:
        """What the server answered to the last question for this name and record type; None: nobody asked."""
        for question, answers in reversed(self._server.asked):
            words = question.lower().split()
            if words[0].rstrip(".") == name and words[-1] == record.lower():
                return answers
        return None


def zone(domains: Sequence[str]) -> dict[str, list[str]]:
    """What the world would be told about the domains: the records that docs/install.md asks for."""
    records: dict[str, list[str]] = {}
    for domain in domains:
        records[domain] = [f"MX 10 mail.{domain}.", 'TXT "v=spf1 mx -all"']
        records[f"mail.{domain}"] = ["A 127.0.0.1"]
    return records
