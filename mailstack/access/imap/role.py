"""IMAP access: each command of the session (`wire.imap`) is answered from the store.

Theory of operation. One table says who answers which command; the state machine of `wire.imap.states` has
already seen to it that the command may be given now. After the answer is made, what happened to the
selected mailbox meanwhile is told, and only then the answer is given: so the client's picture is right when
its command ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mailstack.access.imap import (
    authorized,
    contexts,
    copying,
    fetch,
    flags,
    listing,
    login,
    mailboxes,
    metadata,
    multisearch,
    notify,
    quota,
    search,
    selected,
    sharing,
    sorting,
)
from mailstack.access.imap.append import Appending
from mailstack.access.imap.context import (
    Context,
    Deleted,
    Say,
    Services,
    Unsupported,
    completed,
    refuse,
)
from mailstack.access.imap.filters import UndefinedFilter
from mailstack.access.imap.idle import Idling
from mailstack.access.imap.notify import changed_names
from mailstack.access.imap.numbers import NoSuchMessage, needs_numbers
from mailstack.access.imap.permission import recheck
from mailstack.access.imap.progress import LONG, with_progress
from mailstack.access.imap.saved import resolved
from mailstack.access.imap.sections import UnknownEncoding
from mailstack.access.imap.telling import takes_more, tell_selected
from mailstack.access.imap.texts import Cut
from mailstack.access.imap.updates import pending
from mailstack.access.imap.words import refusal
from mailstack.access.settings import ImapConfig
from mailstack.net.peer import Peer
from mailstack.net.sign_in import Patience, SignIn
from mailstack.store.message_store import MessageStore
from mailstack.store.news import by
from mailstack.store.values import StoreError
from mailstack.wire.imap import commands as c
from mailstack.wire.imap import extensions as x
from mailstack.wire.imap import responses as r
from mailstack.wire.imap.codes import UID_REQUIRED, UNKNOWN_CTE, undefined_filter
from mailstack.work import Overloaded, Work

_log = Logger(namespace="mailstack.access.imap")

Answer = Callable[[Context, Any], Awaitable[r.AnyResponse]]


async def noop(context: Context, command: c.Noop) -> r.AnyResponse:
    """NOOP: the updates come with every command."""
    return completed(command, "NOOP")


async def logout(context: Context, command: c.Logout) -> r.AnyResponse:
    """LOGOUT."""
    context.leave()
    return r.Bye("Logging out"), completed(command, "LOGOUT")


ANSWERS: dict[type[c.Command], Answer] = {
    c.Capability: login.capability,
    c.Noop: noop,
    c.Logout: logout,
    c.Id: login.identify,
    c.Enable: login.enable,
    c.StartTls: login.start_tls,
    c.Select: selected.select,
    c.Close: selected.close,
    c.Unselect: selected.unselect,
    c.Check: selected.check,
    c.Expunge: selected.expunge,
    c.Create: mailboxes.create,
    c.Delete: mailboxes.delete,
    c.Rename: mailboxes.rename,
    c.Subscribe: mailboxes.subscribe,
    c.Unsubscribe: mailboxes.unsubscribe,
    c.Status: mailboxes.status,
    c.Namespace: mailboxes.namespace,
    c.List: listing.list_mailboxes,
    c.Lsub: listing.list_subscribed,
    c.Fetch: fetch.fetch,
    c.Search: search.search,
    c.Store: flags.store,
    c.Copy: copying.copy,
    c.Move: copying.move,
    c.GetQuota: quota.get_quota,
    c.GetQuotaRoot: quota.get_quota_root,
    c.SetQuota: quota.set_quota,
    x.SetAcl: sharing.set_acl,
    x.DeleteAcl: sharing.delete_acl,
    x.GetAcl: sharing.get_acl,
    x.ListRights: sharing.list_rights,
    x.MyRights: sharing.my_rights,
    x.GetMetadata: metadata.get_metadata,
    x.SetMetadata: metadata.set_metadata,
    x.Language: login.language,
    x.MultiSearch: multisearch.search,
    x.Compress: login.compress,
    x.Sort: sorting.sort,
    x.Thread: sorting.thread,
    x.GenUrlAuth: authorized.gen_url_auth,
    x.UrlFetch: authorized.url_fetch,
    x.ResetKey: authorized.reset_key,
    x.Notify: notify.notify,
    x.CancelUpdate: contexts.cancel,
}


class ImapAccess:
    """The IMAP service: makes the role of each connection."""

    def __init__(
        self,
        store: MessageStore,
        sign_in: SignIn,
        config: ImapConfig,
        *,
        clock: IReactorTime,
        work: Work,
        hostname: str = "localhost",
        offers_tls: bool = True,
        inbox_only: bool = True,
    ) -> None:
        self._services = Services(store, sign_in, config, clock, work, hostname, offers_tls, inbox_only)

    def welcome(self, peer: Peer, say: Say) -> ImapRole:
        """The role of a new connection."""
        config = self._services.config
        patience = Patience(config.max_auth_failures, config.auth_failure_seconds)
        return ImapRole(
            Context(self._services, peer, say, self._services.sign_in.door(peer, "imap", patience))
        )


class ImapRole:
    """Answers one connection's commands."""

    __slots__ = ("_appending", "_context", "_idling", "idle_limit")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._appending: Appending | None = None
        self._idling: Idling | None = None
        self.idle_limit = context.services.config.login_seconds

    async def greet(self) -> r.AnyResponse:
        """The greeting, with the capabilities (RFC 3501 section 7.1.1)."""
        return r.Greeting(f"{self._context.services.hostname} ready", login.capabilities(self._context))

    async def answer(self, event: c.Event) -> r.AnyResponse | None:
        """The response to a command, and before it what else there is to tell."""
        if isinstance(event, c.Malformed):
            return await self._malformed(event)
        context = self._context
        by.set(context)
        if context.watch is not None:
            await context.watch.hold()
        try:
            return await self._reply(event)
        finally:
            if context.watch is not None:
                context.watch.release()

    async def _malformed(self, event: c.Malformed) -> r.AnyResponse:
        if self._context.door.has_refused and event.tag is not None and not event.fatal:
            return login.after_refused_token(self._context, event.tag)
        await self._abandon()
        return r.refusal(event)

    async def _reply(self, event: c.Command) -> r.AnyResponse | None:
        self._context.begin(event.tag)
        try:
            await recheck(self._context)
            answer = self._answer(event)
            reply = await (with_progress(self._context, answer) if type(event) in LONG else answer)
        except StoreError as error:
            reply = refusal(event, error)
        except NoSuchMessage:
            reply = r.Tagged(event.tag, "BAD", "No such message number")
        except Overloaded:
            reply = refuse(event, "Too busy; try again later", "UNAVAILABLE")
        except Unsupported as error:
            reply = r.Tagged(event.tag, "BAD", f"Not offered: {error}")
        except UndefinedFilter as error:
            reply = refuse(event, "There is no such filter", undefined_filter(str(error)))
        except UnknownEncoding:
            reply = refuse(event, "A part has an unknown transfer encoding", UNKNOWN_CTE)
        except Deleted:
            return Deleted.farewell
        except Cut:
            _log.failure("a message could not be sent to its end")
            return r.Bye("Cannot read the message", "SERVERBUG")
        await self._look_again()
        if not takes_more(self._context):
            return await self._with_updates(event, reply)
        await self._tell(event, reply)
        return reply

    async def _look_again(self) -> None:
        """Rights may have changed while a command was answered: until that is known nothing may be told."""
        try:
            await recheck(self._context)
        except (StoreError, Overloaded):
            _log.failure("rights could not be looked at; nothing is told until they are")

    async def _answer(self, event: c.Command) -> r.AnyResponse | None:
        event = resolved(event, self._context.current)
        if self._context.uid_only and needs_numbers(event):  # RFC 9586 section 3
            return r.Tagged(event.tag, "BAD", "There are no message numbers; use UIDs", UID_REQUIRED)
        answer = ANSWERS.get(type(event))
        if answer is not None:
            return await answer(self._context, event)
        match event:
            case c.Login():
                return self._entered(await login.login(self._context, event))
            case c.Authenticate():
                return self._entered(await login.authenticate(self._context, event))
            case c.AuthResponse():
                return self._entered(await login.respond(self._context, event))
            case c.LiteralAnnounced():
                return r.Continuation()
            case c.Append() | c.AppendChunk() | c.AppendEnd() | x.CatenateUrl() | x.CatenateText():
                return await self._append(event)
            case c.Idle():
                self._idling = Idling(self._context)
                return await self._idling.start()
            case c.IdleDone():
                await self._end_idling()
                return completed(event, "IDLE")
            case x.Unauthenticate():
                self._context.door.abandon()
                self.idle_limit = self._context.services.config.login_seconds
                return await login.unauthenticate(self._context, event)
        raise Unsupported(type(event).__name__.upper())

    async def _append(self, event: c.Command) -> r.AnyResponse | None:
        self._appending = appending = self._appending or Appending(self._context)
        match event:
            case c.Append():
                try:
                    return await appending.begin(event)
                except BaseException:
                    await appending.drop()
                    raise
            case c.AppendChunk():
                return await appending.take(event)
            case x.CatenateUrl():
                return await appending.url(event)
            case x.CatenateText():
                return await appending.text(event)
        assert isinstance(event, c.AppendEnd)
        self._appending = None
        return await appending.end(event)

    def _entered(self, reply: r.AnyResponse) -> r.AnyResponse:
        if self._context.user is not None:
            self.idle_limit = self._context.services.config.idle_seconds
        return reply

    async def _with_updates(self, event: c.Command, reply: r.AnyResponse | None) -> r.AnyResponse | None:
        """`reply`, and before its tagged part the updates of the selected mailbox."""
        current = self._context.current
        last = reply[-1] if isinstance(reply, tuple) else reply
        if current is None or not isinstance(last, r.Tagged) or isinstance(event, c.Select):
            return reply
        by_uid = bool(getattr(event, "uid", False))
        said = await pending(self._context, current, expunges=_may_expunge(event), with_uid=by_uid)
        if not said:
            return reply
        return (*reply[:-1], said, last) if isinstance(reply, tuple) else (said, last)

    async def _tell(self, event: c.Command, reply: r.AnyResponse | None) -> None:
        """What is due before the end of a command, after NOTIFY or with searches that are kept up to date."""
        watch = self._context.watch
        last = reply[-1] if isinstance(reply, tuple) else reply
        if not isinstance(last, r.Tagged):
            return
        if watch is not None and last.status == "OK":
            watch.changes(*changed_names(event))
        try:
            if not isinstance(event, c.Select):
                by_uid, asked = bool(getattr(event, "uid", False)), isinstance(event, c.Expunge | c.Move)
                expunges = _may_expunge(event)
                await tell_selected(self._context, expunges=expunges, with_uid=by_uid, asked=asked)
            if watch is not None:
                await watch.flush()
        except (StoreError, Overloaded):
            _log.failure("updates could not be told")
            if watch is not None:
                watch.overflow()

    def timed_out(self) -> r.AnyResponse:
        """The farewell to a silent client (RFC 3501 section 5.4)."""
        return r.Bye("Silent for too long")

    def dismissed(self) -> r.AnyResponse:
        """The farewell when the server stops (RFC 9051 section 7.1.5)."""
        return r.Bye("The server is shutting down")

    def lost(self) -> None:
        """The connection is over: release everything."""
        self._stop_idling()
        self._context.leave()
        if self._context.watch is not None:
            self._context.watch.close()
        if self._appending is not None:
            appending, self._appending = self._appending, None
            Deferred.fromCoroutine(appending.drop()).addErrback(
                lambda failure: _log.failure("a spooled message stays", failure)
            )

    async def _abandon(self) -> None:
        """What was in progress is over."""
        await self._end_idling()
        self._context.door.abandon()
        appending, self._appending = self._appending, None
        if appending is not None:
            await appending.drop()

    async def _end_idling(self) -> None:
        idling, self._idling = self._idling, None
        if idling is not None:
            await idling.end()

    def _stop_idling(self) -> None:
        idling, self._idling = self._idling, None
        if idling is not None:
            idling.stop()


def _may_expunge(event: c.Command) -> bool:
    """RFC 3501 section 7.4.1: no EXPUNGE while answering these; their UID forms are other commands."""
    by_uid = bool(getattr(event, "uid", False))
    return by_uid or not isinstance(event, c.Fetch | c.Store | c.Search | x.Sort | x.Thread)
