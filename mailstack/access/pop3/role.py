"""The answers to one POP3 client (RFC 1939, 2449, 6856)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.access.pop3.login import Login, Services
from mailstack.access.pop3.maildrop import Maildrop, NoSuchMessage
from mailstack.access.pop3.reading import AHEAD, AHEAD_OCTETS, ReadAhead, pieces
from mailstack.access.pop3.retention import capability
from mailstack.access.settings import Pop3Config
from mailstack.mail.eight_bit import Header
from mailstack.net.peer import Peer
from mailstack.net.sign_in import SignIn
from mailstack.store.message_store import MessageStore
from mailstack.store.values import Expunged, NoSuchMailbox, StoreError
from mailstack.wire import pop3
from mailstack.work import Clock, Overloaded, Work

_log = Logger(namespace="mailstack.access.pop3")

SMALL = 64 * 1024  # octets of a message that is read and written at once
MAX_MALFORMED = 50  # lines that are no command, before the connection is closed

GONE = pop3.Err("The maildrop was removed or made anew; log in again")

Say = Callable[[pop3.Reply], Awaitable[None]]


class Pop3Access:
    """The POP3 service: makes the role of each connection."""

    def __init__(
        self,
        store: MessageStore,
        sign_in: SignIn,
        config: Pop3Config,
        *,
        clock: Clock,
        work: Work,
        hostname: str = "localhost",
        offers_tls: bool = True,
    ) -> None:
        self._services = Services(store, sign_in, config, clock, work, hostname, offers_tls)

    def welcome(self, peer: Peer, say: Say) -> Pop3Role:
        """The role of a new connection."""
        return Pop3Role(self._services, peer, say)


class Pop3Role:
    """Answers one connection's commands."""

    __slots__ = ("_login", "_malformed", "_reading", "_say", "_services", "_utf8", "idle_limit")

    def __init__(self, services: Services, peer: Peer, say: Say) -> None:
        self._services = services
        self._say = say
        self._login = Login(services, peer)
        self._malformed = 0
        self._reading: ReadAhead | None = None
        self._utf8 = False  # the client has said UTF8
        self.idle_limit = services.config.login_seconds

    async def greet(self) -> pop3.Reply:
        """The greeting; no APOP timestamp, so no APOP (RFC 1939 section 7)."""
        return pop3.Ok(f"{self._services.hostname} ready")

    async def answer(self, event: pop3.Event) -> pop3.Reply | None:
        """The reply to one command."""
        try:
            return await self._answer(event)
        except NoSuchMessage:
            return pop3.Err("No such message")
        except Expunged:
            return pop3.Err("The message was removed meanwhile")
        except Overloaded:
            return pop3.Err("Too busy; try again later", "SYS/TEMP")
        except NoSuchMailbox:
            if self._login.maildrop is not None:
                return GONE
            _log.warn("somebody logs in who has no INBOX")
            return pop3.Err("The maildrop cannot be read; tell the postmaster", "SYS/PERM")
        except PermissionError:  # RFC 3206 section 4: somebody must see to it
            _log.failure("the maildrop is not as it should be")
            return pop3.Err("The maildrop cannot be read; tell the postmaster", "SYS/PERM")
        except StoreError:
            _log.failure("the maildrop cannot be read")
            return pop3.Err("The maildrop cannot be read", "SYS/TEMP")

    async def _answer(self, event: pop3.Event) -> pop3.Reply | None:
        match event:
            case pop3.User():
                return await self._login.user(event)
            case pop3.Pass():
                return self._entered(await self._login.password(event))
            case pop3.Auth():
                return self._entered(await self._login.authenticate(event))
            case pop3.AuthLine():
                return self._entered(await self._login.respond(event))
            case pop3.Capa():
                return self._capabilities()
            case pop3.Stls():
                return self._start_tls()
            case pop3.Utf8():
                self._utf8 = True
                return pop3.Ok("UTF-8 it is")
            case pop3.Lang():
                return _language(event.wanted)
            case pop3.Malformed():
                return self._refuse(event)
            case pop3.Quit():
                return await self._quit()
            case pop3.Noop():
                return pop3.Ok("")
        return await self._transact(event, self._maildrop)

    async def _transact(self, event: pop3.Event, maildrop: Maildrop) -> pop3.Reply | None:
        match event:
            case pop3.Stat():
                return pop3.Ok(f"{maildrop.count} {maildrop.octets}")
            case pop3.List(None):
                return pop3.Lines(f"{maildrop.count} messages", maildrop.sizes())
            case pop3.List(int(number)):
                return pop3.Ok(f"{number} {maildrop.size(number)}")
            case pop3.Uidl(None):
                return pop3.Lines(f"{maildrop.count} messages", maildrop.unique_ids())
            case pop3.Uidl(int(number)):
                return pop3.Ok(f"{number} {maildrop.unique_id(number)}")
            case pop3.Retr(number):
                return await self._retrieve(maildrop, number)
            case pop3.Top(number, lines):
                return await self._top(maildrop, number, lines)
            case pop3.Dele(number):
                maildrop.delete(number)
                return pop3.Ok(f"Message {number} is marked")
            case pop3.Rset():
                maildrop.reset()
                return pop3.Ok(f"{maildrop.count} messages")
        raise ValueError(f"no answer to {type(event).__name__}")

    @property
    def _maildrop(self) -> Maildrop:
        if self._login.maildrop is None:
            raise RuntimeError("not logged in")
        return self._login.maildrop

    def _capabilities(self) -> pop3.Reply:
        """CAPA (RFC 2449 section 6): what can be used now."""
        config = self._services.config
        words = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", capability(config)]
        if config.login_delay:
            words.append(f"LOGIN-DELAY {config.login_delay}")
        words += ["UTF8 USER", "LANG"]
        if self._login.maildrop is None:
            if self._login.offers_tls:
                words.append("STLS")
            if self._login.is_private:
                words += ["USER", f"SASL {' '.join(self._login.mechanisms)}"]
        words.append("IMPLEMENTATION mailstack")
        return pop3.Lines("Capabilities follow", "".join(f"{word}\r\n" for word in words).encode())

    def _start_tls(self) -> pop3.Reply:
        if not self._login.offers_tls:
            return pop3.Err("TLS is not possible now")
        if self._utf8:  # RFC 6856 section 2.1
            return pop3.Err("STLS comes before UTF8")
        self._login.abandon()  # RFC 2595 section 4: what was said in clear is forgotten
        return pop3.Ok("Begin TLS")

    def _refuse(self, event: pop3.Malformed) -> pop3.Reply:
        self._malformed += 1
        self._login.cancel()
        if self._malformed >= MAX_MALFORMED:
            return pop3.Bye("Too many bad commands")
        return event.reply

    def _entered(self, reply: pop3.Reply) -> pop3.Reply:
        if self._login.maildrop is not None:
            self.idle_limit = self._services.config.idle_seconds
        return reply

    async def _retrieve(self, maildrop: Maildrop, number: int) -> pop3.Reply:
        text = f"{maildrop.size(number)} octets"
        if maildrop.size(number) > SMALL:
            reply = await self._stream(maildrop, number, text, None)
        else:  # one write, and one trip to a thread for many
            data = await self._ahead(maildrop).body(maildrop.uid(number))
            reply = _NEEDS_UTF8 if self._is_refused(data) else pop3.Whole(text, data)
        if not isinstance(reply, pop3.Err):
            await maildrop.fetched(number)
        return reply

    def _ahead(self, maildrop: Maildrop) -> ReadAhead:
        if self._reading is None:
            following = partial(maildrop.following, small=SMALL, most=AHEAD, octets=AHEAD_OCTETS)
            self._reading = ReadAhead(maildrop.mailbox, following)
        return self._reading

    async def _top(self, maildrop: Maildrop, number: int, lines: int) -> pop3.Reply:
        top = pop3.TopLines(lines)
        if maildrop.size(number) > SMALL:
            return await self._stream(maildrop, number, "Top follows", top)
        data = await maildrop.mailbox.body(maildrop.uid(number))
        return _NEEDS_UTF8 if self._is_refused(data) else pop3.Whole("Top follows", top.feed(data))

    def _is_refused(self, data: bytes) -> bool:
        """Whether a message that begins so is not for this client (RFC 6856 section 2.1)."""
        return self._services.config.refuse_8bit_headers and not self._utf8 and Header().has_8bit(data)

    async def _stream(
        self, maildrop: Maildrop, number: int, text: str, top: pop3.TopLines | None
    ) -> pop3.Reply:
        """Say a big message in pieces; what fails before the first is an ordinary -ERR."""
        uid, size = maildrop.uid(number), maildrop.size(number)
        begun = False
        async with aclosing(pieces(maildrop.mailbox, self._services.work, uid, size)) as reading:
            async for data in reading:
                if not begun:
                    if self._is_refused(data):
                        return _NEEDS_UTF8
                    begun = True
                    await self._say(pop3.Begin(text))
                await self._say(pop3.Content(top.feed(data) if top else data))
                if top and top.done:
                    break
        return pop3.End()

    async def _quit(self) -> pop3.Reply:
        """Only here are messages removed (RFC 1939 section 6)."""
        maildrop = self._login.maildrop
        if maildrop is None:
            return pop3.Ok("Good-bye")
        try:
            await maildrop.commit()
        except NoSuchMailbox:
            return GONE
        except Exception:
            _log.failure("marked messages could not be removed")
            return pop3.Err("Messages could not be removed", "SYS/TEMP")
        finally:
            await self._leave(maildrop)
        return pop3.Ok("Good-bye")

    async def _leave(self, maildrop: Maildrop) -> None:
        try:
            await maildrop.leave()
        except NoSuchMailbox:
            pass
        except Exception:
            _log.failure("what was fetched could not be marked as seen")

    def timed_out(self) -> pop3.Reply | None:
        """Nothing is said and nothing removed (RFC 1939 section 3)."""
        return None

    def dismissed(self) -> pop3.Reply | None:
        """A server that stops can say nothing that was not asked."""
        return None

    def lost(self) -> None:
        """The connection is over. Without QUIT nothing is removed."""
        maildrop = self._login.maildrop
        if maildrop is not None:
            Deferred.fromCoroutine(self._leave(maildrop))


_NEEDS_UTF8 = pop3.Err("The message is in UTF-8: say UTF8 before login", "UTF8")  # RFC 6856 section 5


def _language(wanted: str | None) -> pop3.Reply:
    """LANG (RFC 6856 section 3): we speak English, which is the default too."""
    if wanted is None:
        return pop3.Lines("Languages follow", b"en English\r\ni-default English\r\n")
    if wanted == "i-default":
        return pop3.Ok("i-default It is English")
    if wanted in ("*", "en") or wanted.startswith("en-"):
        return pop3.Ok("en It is English")
    return pop3.Err("We speak English only")
