"""Asks a milter (a mail filter of Sendmail's kind, such as OpenDKIM or rspamd), protocol version 6.

Theory of operation. Each SMTP connection has its own connection to the filter, which is told step by step
what the client says, as far as it wants to know. It may refuse at any step, and change the message at the
end. Where it cannot be reached, or breaks off, the check fails, and `on_error` says what that costs; the
next transaction tries again and tells it anew who the client is.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from mailstack import __version__
from mailstack.mail.envelope import Recipient
from mailstack.mail.fields import iterate_fields
from mailstack.mail.reply import Refused, Reply
from mailstack.net.checks import Connection, Incoming, Transaction, Verdict
from mailstack.policy.check import Check, Surroundings
from mailstack.policy.milter_changes import Edited
from mailstack.policy.milter_link import MilterLink, Unreachable, connect
from mailstack.wire import milter
from mailstack.wire.milter import Answer, ReplyCode, Stage, Steps

REJECTED = Reply(550, "5.7.1", "Rejected by policy")
LATER = Reply(451, "4.7.1", "Service unavailable; try again later")
CLOSING = Reply(421, "4.7.1", "Service unavailable; closing")

AT_ONCE = 5  # changes: each may look through a header of tens of thousands of fields

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MilterSettings:
    """[policy.milter], or the table of whatever name the check is given."""

    address: str  # where the filter listens: "inet:HOST:PORT" or "unix:PATH"
    connect_seconds: float = 10.0
    command_seconds: float = 30.0  # for each answer but the last
    content_seconds: float = 300.0  # for the last, when the whole message is there
    macros: dict[str, str] = field(default_factory=dict)  # more of them, told when a client connects

    def __post_init__(self) -> None:
        kind, _, where = self.address.partition(":")
        host, _, port = where.rpartition(":")
        if not (kind == "unix" and where) and not (kind == "inet" and host and port.isdecimal()):
            raise ValueError('address is neither "inet:HOST:PORT" nor "unix:PATH"')
        if min(self.connect_seconds, self.command_seconds, self.content_seconds) <= 0:
            raise ValueError("seconds must be above 0")


class Milter(Check):
    """The check: a session with the filter for each connection."""

    Settings = MilterSettings

    def __init__(self, settings: MilterSettings, surroundings: Surroundings) -> None:
        super().__init__(settings, surroundings)
        self._sessions: dict[Connection, MilterSession] = {}

    async def connected(self, now: Transaction) -> Verdict | None:
        """Connect to the filter and name the client."""
        session = MilterSession(self.settings, self.surroundings)
        self._sessions[now.connection] = session
        return await session.begin(now)

    async def hello(self, now: Transaction) -> Verdict | None:
        """Pass the name on."""
        return await self._sessions[now.connection].hello(now)

    async def mail(self, now: Transaction) -> Verdict | None:
        """Pass the reverse-path on; connect again if need be."""
        return await self._sessions[now.connection].mail(now)

    async def recipient(self, now: Transaction) -> Verdict | None:
        """Pass the recipient on."""
        return await self._sessions[now.connection].recipient(now)

    async def message(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        """Pass the message on; gather what is to be changed."""
        return await self._sessions[now.connection].message(now, incoming)

    def reset(self, connection: Connection) -> None:
        """Have the filter forget the transaction."""
        session = self._sessions.get(connection)
        if session is not None:
            session.reset()

    def closed(self, connection: Connection) -> None:
        """Say goodbye."""
        session = self._sessions.pop(connection, None)
        if session is not None:
            session.close()


class MilterSession:
    """One client's session with the filter."""

    def __init__(self, settings: MilterSettings, surroundings: Surroundings) -> None:
        self._settings = settings
        self._around = surroundings
        self._link: MilterLink | None = None
        self._options = milter.Options(milter.VERSION, milter.Actions(0), Steps(0))
        self._in_transaction = False  # the filter knows of one
        self._absent = False  # it could not be told of this one, and the operator lets mail pass
        self._accepts_client = False  # it wants to know no more of this connection
        self._accepts_message = False  # nor of this transaction
        self._refusal: Reply | None = None  # what it says to all of this connection

    # The steps.

    async def begin(self, now: Transaction) -> Verdict | None:
        """Connect, agree on options, name the client."""
        settings, peer = self._settings, now.connection.peer
        self._accepts_client, self._refusal = False, None
        await self._guarded(self._connect())
        literal = f"[IPv6:{peer.address}]" if ":" in peer.address else f"[{peer.address}]"
        said = milter.connect(literal, peer.address, peer.port)
        facts = {**_about_client(now), **settings.macros}
        return await self._step(Stage.CONNECT, said, Steps.NO_CONNECT, Steps.SILENT_CONNECT, facts)

    async def _connect(self) -> None:
        settings = self._settings
        self._link = await connect(self._around.reactor, settings.address, settings.connect_seconds)
        self._options = await self._link.agree(settings.command_seconds)

    async def hello(self, now: Transaction) -> Verdict | None:
        """Pass HELO on."""
        if self._link is None or self._link.broken is not None:
            return None  # MAIL tries again
        said = milter.helo(now.helo or "")
        return await self._step(Stage.HELO, said, Steps.NO_HELO, Steps.SILENT_HELO, _about_tls(now))

    async def mail(self, now: Transaction) -> Verdict | None:
        """Begin a transaction."""
        self._absent = self._accepts_message = False
        if self._link is None or self._link.broken is not None:
            try:
                await self.begin(now)
            except Unreachable:
                self._absent = True
                raise
            if now.helo is not None:
                await self.hello(now)
            self._accepts_message = False
        self._in_transaction = True
        path = str(now.reverse_path or "")
        parameters = [f"SIZE={now.size}"] if now.size is not None else []
        parameters += ["SMTPUTF8"] if now.smtputf8 else []
        parameters += [f"BODY={now.body}"] if now.body != "7BIT" else []
        said = milter.mail(path, parameters)
        return await self._step(Stage.MAIL, said, Steps.NO_MAIL, Steps.SILENT_MAIL, _about_sender(now))

    async def recipient(self, now: Transaction) -> Verdict | None:
        """Pass the last recipient on."""
        recipient = now.recipients[-1]
        said = milter.rcpt(str(recipient.address))
        facts = _about_recipient(recipient, now)
        return await self._step(Stage.RCPT, said, Steps.NO_RCPT, Steps.SILENT_RCPT, facts)

    async def message(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        """Pass the message on, as far as the filter wants to see it, then hear what it makes of it."""
        for part in (self._data, self._header, self._body, self._end):
            verdict = await part(now, incoming)
            if verdict is not None or self._done:
                return verdict
        return None

    async def _data(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        facts = {"i": now.id}
        return await self._step(Stage.DATA, milter.data(), Steps.NO_DATA, Steps.SILENT_DATA, facts)

    async def _header(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        for name, value in _fields(incoming.header, bool(self._options.steps & Steps.LEADING_SPACE)):
            said = milter.header(name, value)
            verdict = await self._step(None, said, Steps.NO_HEADERS, Steps.SILENT_HEADER)
            if verdict is not None or self._done:
                return verdict
        said, none, silent = milter.end_of_header(), Steps.NO_END_OF_HEADERS, Steps.SILENT_END_OF_HEADERS
        return await self._step(Stage.END_OF_HEADER, said, none, silent, {"i": now.id})

    async def _body(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        if self._options.steps & Steps.NO_BODY:
            return None
        async for chunk in incoming.body():
            answer = await self._say(milter.body(chunk), bool(self._options.steps & Steps.SILENT_BODY))
            if answer is Answer.SKIP:
                return None
            verdict = self._judge(Stage.DATA, answer)
            if verdict is not None or self._done:
                return verdict
        return None

    async def _end(self, now: Transaction, incoming: Incoming) -> Verdict | None:
        edited = Edited(incoming, bool(self._options.steps & Steps.LEADING_SPACE))
        answer = await self._guarded(self._hear_changes(now, edited))
        self._in_transaction = False
        return self._judge(Stage.END_OF_MESSAGE, answer) or await edited.verdict()

    async def _hear_changes(self, now: Transaction, edited: Edited) -> Answer | ReplyCode:
        link, seconds = self._linked(), self._settings.content_seconds
        facts = self._macros(Stage.END_OF_MESSAGE, {"i": now.id})
        await link.write(facts + milter.end_of_message(), seconds)
        count = 0
        while True:
            event = await link.event(seconds)
            if event is Answer.SHUT_DOWN:
                link.fail("it shuts down")
            if isinstance(event, (Answer, ReplyCode)):
                return event
            await edited.apply(event)
            count += 1
            if count % AT_ONCE == 0:
                await deferLater(self._around.reactor, 0)  # others have their turn

    def reset(self) -> None:
        """Forget the transaction."""
        if self._in_transaction and self._link is not None:
            self._link.tell(milter.abort())
        self._in_transaction = self._absent = self._accepts_message = False

    def close(self) -> None:
        """The client is gone."""
        if self._link is not None:
            self._link.close(milter.close())
            self._link = None

    # How a step goes.

    @property
    def _done(self) -> bool:
        """Whether there is nothing more to be told of this message."""
        return self._absent or self._accepts_client or self._accepts_message

    async def _step(
        self,
        stage: Stage | None,
        said: bytes,
        unwanted: Steps,
        silent: Steps,
        facts: dict[str, str] | None = None,
    ) -> Verdict | None:
        """Say one thing with the macros that go before it, and judge the answer."""
        if self._done:
            return None
        if self._refusal is not None:
            raise Refused(self._refusal)
        if self._options.steps & unwanted:
            return None
        macros = self._macros(stage, facts or {}) if stage is not None else b""
        answer = await self._say(macros + said, bool(self._options.steps & silent))
        return self._judge(stage or Stage.DATA, answer)

    async def _say(self, said: bytes, silent: bool) -> Answer | ReplyCode:
        return await self._guarded(self._exchange(said, silent))

    async def _exchange(self, said: bytes, silent: bool) -> Answer | ReplyCode:
        link, seconds = self._linked(), self._settings.command_seconds
        await link.write(said, seconds)
        return Answer.CONTINUE if silent else await link.answer(seconds)

    async def _guarded(self, talk: Coroutine[Deferred[Any], Any, T]) -> T:
        """Whatever cuts a talk short leaves a connection of which nobody knows what comes next."""
        try:
            return await talk
        except BaseException:
            self._drop()
            raise

    def _judge(self, stage: Stage, answer: Answer | ReplyCode) -> Verdict | None:
        """What the answer means for the client; raise Refused."""
        whole = stage in (Stage.CONNECT, Stage.HELO)  # it is about all of the connection
        if answer is Answer.ACCEPT or answer is Answer.DISCARD:
            self._accepts_client |= whole
            self._accepts_message = True
            return Verdict(discard=True) if answer is Answer.DISCARD else None
        if answer not in (Answer.CONTINUE, Answer.SKIP):
            reply = _refusal(answer)
            if whole:
                self._refusal = reply
            raise Refused(reply)
        return None

    def _linked(self) -> MilterLink:
        if self._link is None:
            raise Unreachable("the filter's connection broke")
        return self._link

    def _drop(self) -> None:
        """Nothing sensible can be said on this connection any more."""
        link, self._link = self._link, None
        self._in_transaction = False
        if link is not None:
            link.close()

    # Macros.

    def _macros(self, stage: Stage, facts: dict[str, str]) -> bytes:
        """The packet that tells them: all that belong to the stage, or those the filter has asked for."""
        wanted = self._options.macros.get(stage)
        told = [(name, value) for name, value in facts.items() if wanted is None or name in wanted]
        return milter.macros(stage, told)


def _about_client(now: Transaction) -> dict[str, str]:
    connection = now.connection
    return {
        "j": connection.hostname,
        "{daemon_name}": connection.service,
        "{daemon_port}": str(connection.peer.local_port),
        "v": f"mailstack {__version__}",
        "_": f"[{connection.peer.address}]",
        "{client_addr}": connection.peer.address,
        "{client_port}": str(connection.peer.port),
    }


def _about_tls(now: Transaction) -> dict[str, str]:
    version, _, cipher = (now.connection.peer.tls or "").partition(" ")
    return {"{tls_version}": version, "{cipher}": cipher} if version else {}


def _about_sender(now: Transaction) -> dict[str, str]:
    facts = {"i": now.id, "{mail_addr}": str(now.reverse_path or "")}
    if now.reverse_path is not None:
        facts["{mail_host}"] = now.reverse_path.domain
    if now.login:
        facts |= {"{auth_authen}": now.login, "{auth_type}": now.mechanism or "PLAIN"}
    return facts


def _about_recipient(recipient: Recipient, now: Transaction) -> dict[str, str]:
    address = recipient.address
    return {"i": now.id, "{rcpt_addr}": str(address), "{rcpt_host}": address.domain}


def _fields(header: bytes, leading_space: bool) -> Iterator[tuple[bytes, bytes]]:
    """Names and values as a filter sees them: lines end with LF."""
    for name, raw in iterate_fields(header):
        if not name:
            continue
        written, _, value = raw.partition(b":")
        value = value.removesuffix(b"\r\n").replace(b"\r\n", b"\n")
        yield written.rstrip(b" \t"), value if leading_space else value.removeprefix(b" ")


def _refusal(answer: Any) -> Reply:
    if isinstance(answer, ReplyCode):
        enhanced = answer.enhanced or ("4.7.1" if answer.code < 500 else "5.7.1")
        return Reply(answer.code, enhanced, answer.text or "Rejected by policy")
    if answer is Answer.REJECT:
        return REJECTED
    return CLOSING if answer is Answer.FAIL_CONNECTION else LATER
