"""SASLprep (RFC 4013): the form of a password that SCRAM's keys are made of, on both sides."""

from __future__ import annotations

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(password: str) -> str:
    """`password` prepared; as it is where SASLprep would refuse it, which clients do in different ways."""
    if password.isascii():
        return password
    spaced = (" " if stringprep.in_table_c12(c) else c for c in password)
    kept = "".join(c for c in spaced if not stringprep.in_table_b1(c))
    prepared = unicodedata.normalize("NFKC", kept)
    prohibited = any(test(c) for c in prepared for test in _PROHIBITED)
    return password if prohibited or not prepared or not _one_direction(prepared) else prepared


def _one_direction(prepared: str) -> bool:
    """RFC 3454 section 6: right-to-left text begins and ends so, and has no letter of the other kind."""
    if not any(map(stringprep.in_table_d1, prepared)):
        return True
    ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
    return ends and not any(map(stringprep.in_table_d2, prepared))
