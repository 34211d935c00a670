"""Domains, users, aliases and passwords."""

from mailstack.directory.model import Local, NotLocal, Resolution, User
from mailstack.directory.settings import DirectoryConfig

__all__ = ["DirectoryConfig", "Local", "NotLocal", "Resolution", "User"]
