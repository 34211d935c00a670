"""Secrets of this installation, made when first asked for. Blocking."""

from __future__ import annotations

import os

from sqlalchemy import Connection, insert, select

from mailstack.directory.tables import secrets


def secret(db: Connection, name: str) -> bytes:
    """The 32 random octets of that name, the same for every process; in a write transaction."""
    found: bytes | None = db.scalar(select(secrets.c.value).where(secrets.c.name == name))
    if found is None:
        found = os.urandom(32)
        db.execute(insert(secrets).values(name=name, value=found))
    return bytes(found)
