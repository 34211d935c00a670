"""Settings of final delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class MdaConfig:
    """[mda] of the configuration file."""

    detail_mailbox: bool = False  # user+tag goes to the user's mailbox "tag" where there is one
    over_quota: Literal["bounce", "defer"] = "bounce"  # 552, or 452 and the sender tries again
