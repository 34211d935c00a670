"""The domains' keys.

They lie in the database rather than in files: all processes and machines of an installation sign with the
same keys, a rotation is one transaction, and the database already holds what must not be read by others.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, Table, Text, UniqueConstraint

from mailstack.db import metadata

dkim_keys = Table(
    "dkim_keys",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("domain", Text, nullable=False),  # A-labels, lower case
    Column("selector", Text, nullable=False),
    Column("algorithm", Text, nullable=False),  # rsa or ed25519
    Column("private_key", Text, nullable=False),  # PEM, PKCS 8
    Column("created", Float, nullable=False),  # seconds of the epoch, as all times here
    Column("signs_from", Float, nullable=False),
    Column("signs_until", Float),  # NULL: no end
    UniqueConstraint("domain", "selector"),
)
