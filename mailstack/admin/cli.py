"""The `mailstack` command. Each subcommand's module is imported only when it is used, so that help comes at
once.
"""

from __future__ import annotations

import gc
import importlib
from pathlib import Path

import click

from mailstack import __version__
from mailstack.admin.operator import Operator

# name: module, and what the command is for.
_COMMANDS = {
    "init": ("mailstack.admin.init", "Set up a new installation in a folder."),
    "serve": ("mailstack.admin.serve", "Run the whole stack in the foreground."),
    "status": ("mailstack.admin.status", "Tell how the installation is."),
    "domain": ("mailstack.admin.domains", "The domains served: list, add, remove."),
    "user": ("mailstack.admin.users", "Those who log in: list, add, remove, password, quota, ..."),
    "alias": ("mailstack.admin.aliases", "Addresses that stand for others: list, add, remove."),
    "mailbox": ("mailstack.admin.mailboxes", "A user's mailboxes: list, add, remove, rename."),
    "store": ("mailstack.admin.store", "The mail on the disk: check, rebuild, usage, index, undelete."),
    "queue": ("mailstack.admin.queue", "Mail in wait: list, show, stats, retry, hold, release, drop."),
    "tls-reports": ("mailstack.admin.tls_reports", "What others report about TLS to us: list, show, read."),
    "suppression": ("mailstack.admin.suppression", "Addresses that our users cannot send to."),
    "sender": ("mailstack.admin.held_senders", "Users whose mail is held: list, hold, release."),
    "dkim": ("mailstack.admin.dkim", "The keys that sign our mail: add, list, dns, rotate, remove."),
    "trace": ("mailstack.admin.trace", "What became of a message, step by step."),
    "db": ("mailstack.admin.database", "The database's tables: check, upgrade."),
    "journey": ("mailstack.admin.journey.command", "Watch one message go all the way, between two stacks."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; None where there is none."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list for --help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="MAILSTACK_CONFIG",
    metavar="FILE",
    help="The configuration file; also MAILSTACK_CONFIG.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="For this run, have a dotted key of the file be this TOML value. May be given often.",
)
@click.version_option(__version__, prog_name="mailstack")
@click.pass_context
def cli(context: click.Context, file: Path | None, overrides: tuple[str, ...]) -> None:
    """A mail server: submission, queue, transfer, delivery, POP3 and IMAP.

    \b
    mailstack init /srv/mail --domain example.org --hostname mail.example.org
    mailstack --config /srv/mail/mailstack.toml user add alice@example.org
    mailstack --config /srv/mail/mailstack.toml serve

    Exit status: 0 done; 1 refused or not found; 2 a mistake in the command or the configuration file.
    """
    context.obj = Operator(file, overrides)


def main() -> None:
    """The entry point: runs the command line and exits."""
    # What the imports bring stays: to look for garbage in it after every few hundred objects takes more than
    # a twentieth of the time in which a command or the server starts.
    gc.set_threshold(300_000, 50, 100)
    cli(prog_name="mailstack")
