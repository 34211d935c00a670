"""Connections to next hops: made, protected, logged in, kept for the next message.

Theory of operation. A connection is kept after a transaction for some seconds, under the target and what its
TLS has proved; the next message there takes it up again, with RSET first unless its last transaction came to
its end just now. A server may close it at any time, so a transaction that breaks on a kept connection before
its content was sent is begun again on a new one. The number kept is bounded; the oldest is closed first.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailstack.mail.reply import Reply
from mailstack.mta.exchangers import Target
from mailstack.mta.result import NextExchangerError, Result, failure
from mailstack.mta.security import Level, Security
from mailstack.net.client_tls import Roots, Shown
from mailstack.net.dialogue import Broken, Dialogue, Timeouts, TlsFailed, connect
from mailstack.net.peer import Peer
from mailstack.net.transcript import Transcript
from mailstack.wire.smtp import client
from mailstack.wire.smtp.client import Offers

PROBE = 1.0  # seconds: a connection that was kept longer is asked whether it is there still

Key = tuple[Target, Security]


class Unprotected(Broken):
    """TLS was needed or begun and is not what it must be; `result` is RFC 8460's word for it."""

    def __init__(self, text: str, result: str) -> None:
        super().__init__(text)
        self.result = result


@dataclass(slots=True)
class Connection:
    """A server that has been greeted, and is protected as it was asked."""

    dialogue: Dialogue
    target: Target
    security: Security
    offers: Offers
    trust: str  # why TLS is as it is
    cipher: str = ""
    problem: tuple[str, str] | None = None  # what a policy in testing would have refused: result, reason
    messages: int = 0  # carried so far
    clean: bool = True  # no transaction is open
    kept: bool = False
    since: float = 0.0  # kept since

    def room(self, most: int) -> int:
        """How many more transactions it is for, by the server's MAILMAX (RFC 9422) and our `most`."""
        theirs = self.offers.limit("MAILMAX")
        return (most if theirs is None else min(most, theirs)) - self.messages


class Connections:
    """Makes and keeps them."""

    def __init__(
        self,
        reactor: Any,
        hostname: str,
        timeouts: Timeouts,
        roots: Roots | None,
        transcript: Callable[[Peer], Transcript] | None = None,
        *,
        keep: float = 5.0,
        most: int = 100,
        messages: int = 100,
    ) -> None:
        self._reactor = reactor
        self._hostname = hostname
        self._timeouts = timeouts
        self._roots = roots
        self._transcript = transcript
        self._keep = keep
        self._most = most
        self._messages = messages
        self._kept: dict[Key, list[Connection]] = {}
        self._order: OrderedDict[int, Connection] = OrderedDict()
        self._sweep: Any = None

    # Keeping.

    async def take(self, target: Target, security: Security) -> Connection | None:
        """A kept connection that is there still."""
        waiting = self._kept.get((target, security), [])
        while waiting:
            connection = waiting[-1]
            self._forget(connection)
            connection.dialogue.begin_attempt()
            if await self._is_there(connection):
                return connection
            connection.dialogue.quit()
        return None

    async def _is_there(self, connection: Connection) -> bool:
        if not connection.dialogue.usable:
            return False
        if connection.clean and self._reactor.seconds() - connection.since < PROBE:
            return True
        try:
            return (await connection.dialogue.command(b"RSET\r\n")).accepted
        except Broken:
            return False

    def give(self, connection: Connection) -> None:
        """Keep a connection for the next message, or end it."""
        most = connection.room(self._messages)
        used_up = most <= 0 or connection.offers.limit("RCPTDOMAINMAX") is not None  # by other domains
        if self._keep <= 0 or used_up or not connection.dialogue.usable:
            connection.dialogue.quit()
            return
        connection.kept, connection.since = True, self._reactor.seconds()
        self._kept.setdefault((connection.target, connection.security), []).append(connection)
        self._order[id(connection)] = connection
        while len(self._order) > self._most:
            self._end(next(iter(self._order.values())))
        if self._sweep is None and self._order:
            self._sweep = self._reactor.callLater(self._keep, self._swept)

    def close(self) -> None:
        """End all that are kept."""
        while self._order:
            self._end(next(iter(self._order.values())))
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _swept(self) -> None:
        self._sweep = None
        now = self._reactor.seconds()
        while self._order:
            oldest = next(iter(self._order.values()))
            left = oldest.since + self._keep - now
            if left > 0 and oldest.dialogue.usable:
                self._sweep = self._reactor.callLater(left, self._swept)
                return
            self._end(oldest)

    def _end(self, connection: Connection) -> None:
        self._forget(connection)
        connection.dialogue.quit()

    def _forget(self, connection: Connection) -> None:
        key = (connection.target, connection.security)
        self._kept[key].remove(connection)
        if not self._kept[key]:
            del self._kept[key]
        del self._order[id(connection)]

    # Making.

    async def open(self, target: Target, security: Security, password: str | None = None) -> Connection:
        """A new connection; raise NextExchangerError, TlsFailed, Unprotected, Broken."""
        try:
            dialogue = await connect(
                self._reactor, target.address, target.port, self._timeouts, self._transcript
            )
        except Broken as error:
            raise NextExchangerError(Result(Reply(451, "4.4.1", str(error)), str(target)), True) from error
        try:
            connection = await self._begin(dialogue, target, security)
            if security.user is not None:
                await self._log_in(connection, security.user, password or "")
                connection.offers = await self._hello(connection)  # some offer more to who has logged in
        except BaseException:
            dialogue.quit()
            raise
        return connection

    async def _begin(self, dialogue: Dialogue, target: Target, security: Security) -> Connection:
        connection = Connection(dialogue, target, security, Offers(), "")
        if security.implicit:
            await self._start_tls(connection)
        greeting = await dialogue.greeting()
        if not greeting.accepted:
            raise _refused(connection, greeting)
        connection.offers = await self._hello(connection)
        if dialogue.tls is None:
            await self._upgrade(connection)
        return connection

    async def _hello(self, connection: Connection) -> Offers:
        dialogue, lmtp = connection.dialogue, connection.target.lmtp
        reply = await dialogue.command(client.hello(self._hostname, b"LHLO" if lmtp else b"EHLO"))
        offers = Offers.read(reply)
        if reply.permanent and dialogue.tls is None and not lmtp:
            # RFC 5321 section 3.2: an old server knows HELO.
            reply = await dialogue.command(client.hello(self._hostname, b"HELO"))
            offers = Offers(reply.text.split(" ")[0].lower())
        if not reply.accepted:
            raise _refused(connection, reply)
        if offers.name == self._hostname and not lmtp:
            loop = Reply(554, "5.4.6", "The server that answers calls itself by our name: a loop")
            raise NextExchangerError(Result(loop, str(connection.target), dialogue.tls), True)
        return offers

    async def _upgrade(self, connection: Connection) -> None:
        """STARTTLS where it is offered (RFC 3207), or must be."""
        level = connection.security.level
        if level is Level.NONE:
            connection.trust = connection.security.by or "TLS is not wanted"
            return
        if "STARTTLS" not in connection.offers:
            self._in_clear(connection, "STARTTLS is not offered")
            return
        reply = await connection.dialogue.command(b"STARTTLS\r\n")
        if reply.code == 421:
            raise _refused(connection, reply)
        if not reply.accepted:
            self._in_clear(connection, f"STARTTLS was refused: {reply}")  # RFC 3207 section 4
            return
        await self._start_tls(connection)
        connection.offers = await self._hello(connection)

    def _in_clear(self, connection: Connection, why: str) -> None:
        connection.trust = why
        if connection.security.level is not Level.MAY:
            raise Unprotected(why, "starttls-not-supported")
        if connection.security.testing:
            connection.problem = ("starttls-not-supported", why)

    async def _start_tls(self, connection: Connection) -> None:
        security, dialogue = connection.security, connection.dialogue
        judged = security.level is Level.VERIFY or security.testing
        roots = self._roots if judged and not security.tlsa else None
        name = security.server_name or connection.target.name
        creator = roots.connection(name) if roots else None
        shown = await dialogue.start_tls(name, creator)
        connection.cipher = shown.cipher
        problem = security.problem(shown)
        if problem is None:
            connection.trust = security.words(shown)
        elif security.testing:
            connection.trust = f"{security.words(shown)}: {problem}"
            connection.problem = (_result_type(shown, problem), problem)
        else:
            raise Unprotected(problem, _result_type(shown, problem))

    async def _log_in(self, connection: Connection, user: str, password: str) -> None:
        """AUTH PLAIN or LOGIN (RFC 4954, RFC 4616): over TLS with a proven host only."""
        mechanisms = connection.offers.keywords.get("AUTH", "").upper().split()
        dialogue = connection.dialogue
        if dialogue.tls is None or connection.security.level is not Level.VERIFY:
            raise Unprotected("a password is not sent without verified TLS", "validation-failure")
        if "PLAIN" in mechanisms:
            reply = await dialogue.secret(b"AUTH PLAIN %s\r\n" % _base64(f"\0{user}\0{password}"))
        elif "LOGIN" in mechanisms:
            reply = await dialogue.command(b"AUTH LOGIN\r\n")
            for word in (user, password):
                if reply.code == 334:
                    reply = await dialogue.secret(_base64(word) + b"\r\n")
        else:
            reply = Reply(454, "4.7.0", "The server offers neither AUTH PLAIN nor AUTH LOGIN")
        if not reply.accepted:  # our settings are wrong, not the message: the operator has time to mend them
            text = f"{connection.target.name} refused our login: {reply}"
            result = Result(Reply(451, "4.7.8", text), str(connection.target), dialogue.tls)
            raise NextExchangerError(result, True)


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode())


def _refused(connection: Connection, reply: Reply) -> NextExchangerError:
    target = connection.target
    result = Result(failure(reply), str(target), connection.dialogue.tls, target.name)
    return NextExchangerError(result, True)


def _result_type(shown: Shown, problem: str) -> str:
    """RFC 8460 section 4.3.1."""
    if "is not for" in problem:
        return "certificate-host-mismatch"
    if shown.expired:
        return "certificate-expired"
    if shown.problem is not None and problem == shown.problem:
        return "certificate-not-trusted"
    return "validation-failure"


__all__ = ["Connection", "Connections", "TlsFailed", "Unprotected"]
