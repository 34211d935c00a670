"""IDLE (RFC 2177): what happens to the selected mailbox is told in the same turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailstack.access.imap.context import Context, Deleted
from mailstack.access.imap.permission import recheck
from mailstack.access.imap.telling import takes_more, tell_selected
from mailstack.access.imap.updates import pending
from mailstack.net.conversation import Vanished
from mailstack.wire.imap.responses import AnyResponse, Continuation

_log = Logger(namespace="mailstack.access.imap")


class Idling:
    """The pushing side of one connection, from IDLE to DONE."""

    __slots__ = ("_context", "_done", "_news", "_pushing", "_unwatch")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._unwatch: Callable[[], None] | None = None
        self._pushing = False
        self._news = False
        self._done: Deferred[None] | None = None  # who waits for the end of a push

    async def start(self) -> AnyResponse:
        """Watch the mailbox, and tell at once what the client does not know yet."""
        selected, watch = self._context.current, self._context.watch
        said = b""
        if watch is not None:  # RFC 5465 section 4: exactly what NOTIFY asked for
            watch.idle(True)
            return Continuation("idling")
        if selected is not None and not selected.mailbox.deleted:
            self._unwatch = selected.mailbox.watch(self._changed)
            selected.wake = self._changed
            if takes_more(self._context):
                await tell_selected(self._context, expunges=True)
            else:
                said = await pending(self._context, selected, expunges=True)
        return Continuation("idling"), said

    async def end(self) -> None:
        """Push no more, and wait until what is being pushed is out."""
        self.stop()
        if self._pushing:
            self._done = Deferred()
            await self._done

    def stop(self) -> None:
        """Push no more."""
        if self._context.watch is not None:
            self._context.watch.idle(False)
        unwatch, self._unwatch = self._unwatch, None
        if unwatch is not None:
            unwatch()
            if self._context.current is not None:
                self._context.current.wake = None

    def _changed(self) -> None:
        if self._pushing:
            self._news = True  # the client reads slowly: what comes meanwhile goes out together
        else:
            self._pushing = True
            Deferred.fromCoroutine(self._push())

    async def _push(self) -> None:
        try:
            self._news = True
            while self._news and self._unwatch is not None:
                self._news = False
                await recheck(self._context)
                selected = self._context.current
                if selected is not None and selected.mailbox.deleted:
                    self.stop()
                    await self._context.say(Deleted.farewell)  # which ends the connection
                elif takes_more(self._context):
                    await tell_selected(self._context, expunges=True)
                elif selected is not None:
                    said = await pending(self._context, selected, expunges=True)
                    if said:
                        await self._context.say(said)
        except Vanished:
            self.stop()
        except Exception:
            _log.failure("a push to an idle client failed")
            self.stop()
        finally:
            self._pushing = False
            if self._done is not None:
                self._done.callback(None)
