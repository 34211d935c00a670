"""The MDA: final delivery, a recipient of ours becomes a message in a mailbox."""

from mailstack.mda.delivery import Delivery
from mailstack.mda.settings import MdaConfig

__all__ = ["Delivery", "MdaConfig"]
