"""The store's front for rights, other users' mailboxes and annotations; a part of `MessageStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mailstack.store import acl, fetched, mailboxes, quotas, url_keys
from mailstack.store import annotations as notes
from mailstack.store.names import canonical
from mailstack.store.news import News
from mailstack.store.rows import box_by_name
from mailstack.store.settings import StoreConfig
from mailstack.store.values import ALL_RIGHTS, MailboxInfo, NoPermission
from mailstack.work import Work


class Sharing:
    """What users may do with one another's mailboxes, and what they note of them."""

    _config: StoreConfig
    _work: Work
    news: News

    # Mailboxes of others, and what is noted of mailboxes

    async def shared_mailboxes(self, user_id: int) -> list[MailboxInfo]:
        """The mailboxes of others that the user may see, by name: ``Other Users/<address>/<name>``."""
        return await self._work.read(acl.shared_with, user_id) if self._config.sharing else []

    async def rights(self, user_id: int, name: str) -> str:
        """What the user may do with a mailbox (RFC 4314 section 3.5). Raise NoSuchMailbox."""
        place = await self._located(user_id, name, "")
        await self._work.read(mailboxes.must_exist, place.owner_id, place.name)
        return place.rights

    async def rights_in(self, user_id: int, mailbox_id: int) -> str:
        """The same for a mailbox that the user has open, whatever its name is now; nothing if it is gone."""
        return await self._work.read(acl.rights_in, user_id, mailbox_id)

    async def list_acl(self, user_id: int, name: str) -> dict[str, str]:
        """Rights by identifier, the owner first (RFC 4314 section 3.3). Raise NoSuchMailbox, NoPermission."""
        await self._located(user_id, name, "a")
        return await self._work.read(acl.read_acl, user_id, name)

    async def change_acl(self, user_id: int, name: str, identifier: str, mode: str, rights: str) -> None:
        """Give or take rights; `mode` is "add", "remove" or "replace" (RFC 4314 sections 3.1 and 3.2).

        Raise NoSuchMailbox, NoPermission, BadRights, TooMany.
        """
        place = await self._located(user_id, name, "a")
        if not self._config.sharing:
            raise NoPermission("mailboxes are not shared here")
        concerned = await self._work.transaction(acl.change_acl, user_id, name, identifier, mode, rights)
        self._listed(place.owner_id)
        if concerned != place.owner_id:
            self._listed(concerned)

    # Whose limits count (RFC 9208)

    async def account_for(self, user_id: int, name: str) -> quotas.Account | None:
        """What the owner of a mailbox of another user may hold; None for one of the user's own.

        The mailbox need not be there yet. Raise NoSuchMailbox, NoPermission without "r".
        """
        if not (self._config.sharing and acl.is_shared(name)):
            return None
        account = await self._work.read(quotas.account_for, user_id, name)
        return None if account.owner_id == user_id else account

    async def account_with(self, user_id: int, address: str) -> quotas.Account | None:
        """The same of the user with that address, if one of their mailboxes may be read; else None."""
        return await self._work.read(quotas.account_with, user_id, address) if self._config.sharing else None

    async def appended(self, user_id: int, name: str) -> quotas.Account | None:
        """What `account_for` says to whoever may append there: the right "i" is enough (RFC 4314 section 4).

        Raise NoSuchMailbox, NoPermission.
        """
        place = await self._located(user_id, name, "i")
        await self._work.read(box_by_name, place.owner_id, place.name, False)
        return None if place.owner_id == user_id else await self._work.read(quotas.account_of, place.owner_id)

    async def metadata(self, user_id: int, name: str | None) -> dict[str, bytes]:
        """Annotations of a mailbox, or with None of the server, that the user may read (RFC 5464).

        Whole entry names, ``/private/comment``, sorted. Raise NoSuchMailbox, NoPermission.
        """
        await (self._home(user_id) if name is None else self._located(user_id, name, "r"))
        return await self._work.read(notes.read, user_id, name)

    async def set_metadata(self, user_id: int, name: str | None, entries: Mapping[str, bytes | None]) -> None:
        """Set annotations, None removes; all or none.

        Raise BadEntry, TooLarge, TooMany, NoSuchMailbox, NoPermission.
        """
        await (self._home(user_id) if name is None else self._located(user_id, name, "r"))
        limits = notes.Limits(self._config.metadata_entries, self._config.metadata_octets)
        for noted in await self._work.transaction(notes.write, user_id, name, dict(entries), limits):
            self.news.publish(noted)

    # URLs that carry their own authorization (RFC 4467)

    async def user_of(self, address: str) -> int | None:
        """The user with that address who may log in; None if there is none."""
        return await self._work.read(url_keys.user_of, address)

    async def url_key(self, user_id: int, name: str, *, make: bool = False) -> bytes | None:
        """The key with which the user signs URLs of a mailbox; `make` one if there is none.

        Raise NoSuchMailbox, NoPermission.
        """
        await self._located(user_id, name, "r")
        key: bytes | None = await self._work.read(url_keys.key_of, user_id, name)
        if key is None and make:
            key = await self._work.transaction(url_keys.made_key, user_id, name)
        return key

    async def reset_url_keys(self, user_id: int, name: str | None) -> None:
        """Forget the user's key for a mailbox, or with None all. Raise NoSuchMailbox, NoPermission."""
        await (self._home(user_id) if name is None else self._located(user_id, name, "r"))
        await self._work.transaction(url_keys.reset, user_id, name)

    # What POP3 clients have fetched

    async def pop3_fetched(self, mailbox_id: int) -> dict[int, int]:
        """When each message of a mailbox was first fetched, in seconds of the epoch, by UID."""
        return await self._work.read(fetched.read, mailbox_id)

    async def note_pop3_fetched(self, mailbox_id: int, uids: Sequence[int], at: int) -> None:
        """Remember that messages were fetched."""
        await self._work.transaction(fetched.note, mailbox_id, tuple(uids), at)

    # Inside

    async def _located(self, user_id: int, name: str, rights: str) -> acl.Place:
        """What a name means to a user who needs those rights. Raise NoSuchMailbox, NoPermission."""
        if acl.is_shared(name) and self._config.sharing:
            place = (await self._work.read(acl.locate, user_id, name)).need(rights)
        else:
            place = acl.Place(user_id, canonical(name), ALL_RIGHTS)
        await self._home(place.owner_id)
        return place

    async def _located_new(self, user_id: int, name: str) -> acl.Place:
        if acl.is_shared(name) and self._config.sharing:
            return await self._work.read(acl.locate_new, user_id, name)
        await self._home(user_id)
        return acl.Place(user_id, canonical(name), ALL_RIGHTS)

    async def _home(self, user_id: int) -> Path:
        raise NotImplementedError

    def _listed(self, user_id: int | None) -> None:
        raise NotImplementedError
