"""Secrets of this installation, made when first asked for. Blocking."""

from __future__ import annotations

import os

from sqlalchemy import Column, Connection, LargeBinary, Table, Text, insert, select

from mailstack.db.metadata import metadata

secrets = Table(
    "secrets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)


def secret(db: Connection, name: str) -> bytes:
    """The 32 random octets of that name, the same for every process; in a write transaction."""
    found: bytes | None = db.scalar(select(secrets.c.value).where(secrets.c.name == name))
    if found is None:
        found = os.urandom(32)
        db.execute(insert(secrets).values(name=name, value=found))
    return bytes(found)
