"""One message, several names: how a copy comes to its place without its octets being written again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from sqlalchemy import Connection

from mailstack.db import undo
from mailstack.mail.message import Message, Stored
from mailstack.store import maildir
from mailstack.store.values import Expunged

_NO_LINK = {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP}  # the file system has no (more) links


def link(db: Connection, source: str, target: str) -> None:
    """Have the file `source`, which another program may have renamed, at `target` too.

    Raise Expunged, OSError. Paths of files in new/ or cur/. Where no link can be made the octets are copied.
    """
    try:
        os.link(source, target)
    except FileNotFoundError:
        mailbox, _, path = _split(source)
        found = maildir.find(mailbox, maildir.base_of(path))
        if found is None:
            raise Expunged("a file is lost") from None
        _link_or_copy(db, str(mailbox / found), target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(db, source, target)


def _link_or_copy(db: Connection, source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise Expunged("a file is lost") from None
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        _copy(db, source, target)


def _split(path: str) -> tuple[Path, str, str]:
    mailbox, directory, name = path.rsplit("/", 2)
    return Path(mailbox), directory, f"{directory}/{name}"


def _copy(db: Connection, source: str, target: str) -> None:
    status = os.stat(source)
    tmp = f"{_split(target)[0]}/tmp"
    message = Message((Stored(Path(source), 0, status.st_size),))
    written = maildir.write_message(tmp, message, int(status.st_mtime))
    undo(db, lambda: maildir.remove(written.path))
    os.rename(written.path, target)
