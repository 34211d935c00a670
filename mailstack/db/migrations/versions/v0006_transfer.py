"""Transfers: due entries by hop, what the operator wants tried, MTA-STS policies, TLS reports."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, LargeBinary, Text, false

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    """To this version."""
    op.add_column("queue_entries", Column("asked", Boolean, nullable=False, server_default=false()))
    op.create_index(
        "ix_queue_entries_state_hop_next_attempt", "queue_entries", ["state", "hop", "next_attempt"]
    )
    op.create_table(
        "sts_policies",
        Column("domain", Text, primary_key=True),
        Column("policy_id", Text, nullable=False),
        Column("mode", Text, nullable=False),
        Column("mx", Text, nullable=False),
        Column("max_age", Float, nullable=False),
        Column("fetched_at", Float, nullable=False),
    )
    op.create_table(
        "tls_results",
        Column("id", KEY, primary_key=True),
        Column("day", Text, nullable=False),
        Column("domain", Text, nullable=False),
        Column("policy", Text, nullable=False),
        Column("strings", Text, nullable=False),
        Column("patterns", Text, nullable=False),
        Column("exchanger", Text, nullable=False),
        Column("address", Text, nullable=False),
        Column("result", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("sessions", BigInteger, nullable=False),
    )
    op.create_index("ix_tls_results_day_domain", "tls_results", ["day", "domain"])
    op.create_table(
        "tls_reports",
        Column("id", KEY, primary_key=True),
        Column("received_at", Float, nullable=False),
        Column("organization", Text, nullable=False),
        Column("report_id", Text, nullable=False, unique=True),
        Column("begins", Text, nullable=False),
        Column("ends", Text, nullable=False),
        Column("domains", Text, nullable=False),
        Column("good", BigInteger, nullable=False),
        Column("bad", BigInteger, nullable=False),
        Column("content", LargeBinary, nullable=False),
    )
