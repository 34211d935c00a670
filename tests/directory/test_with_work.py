"""The directory over real threads and a real reactor."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import TestCase

from mailstack.db import Database, DatabaseConfig
from mailstack.directory.directory import Directory
from mailstack.directory.lookups import credentials
from mailstack.directory.passwords import Passwords
from mailstack.directory.settings import DirectoryConfig
from mailstack.directory.tables import aliases, domains, grants, secrets, user_keys, users
from mailstack.directory.verbs import add_domain, add_user
from mailstack.mail.address import Address
from mailstack.work import Work

CONFIG = DirectoryConfig(argon2_memory_kib=8, argon2_time_cost=1)


class TestWithWork(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.database = Database(DatabaseConfig(f"sqlite:///{Path(self.mktemp()).absolute()}"))
        with self.database.engine.begin() as db:
            for table in (domains, users, user_keys, secrets, aliases, grants):
                table.create(db)
        self.database.write(add_domain, "example.org")
        weak = Passwords(DirectoryConfig(argon2_memory_kib=16, argon2_time_cost=1)).hash("wonderland")
        self.database.write(add_user, "alice@example.org", weak)
        self.work = Work(reactor, self.database)
        self.directory = Directory(self.work, CONFIG, cast(IReactorTime, reactor))

    async def test_many_logins_at_once_and_what_they_leave(self) -> None:
        logins = [
            Deferred.fromCoroutine(self.directory.authenticate("alice@example.org", password))
            for password in ["wonderland", "wrong"] * 10
        ]
        found = await gatherResults(logins)
        self.assertEqual([user is not None for user in found], [True, False] * 10)
        await self.work.close()  # what is written behind the answer is written now
        after = self.database.read(credentials, "alice@example.org")
        assert after is not None
        self.assertIn("$m=8,", after.password_hash)
        self.assertIsNotNone(after.last_login)
        self.database.dispose()

    async def test_resolve(self) -> None:
        found = await self.directory.resolve(Address.parse("alice+x@example.org"))
        assert found is not None
        self.assertEqual([local.detail for local in found.locals], ["x"])
        self.assertTrue(await self.directory.is_local("Example.ORG"))
        await self.work.close()
