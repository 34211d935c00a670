"""`mailstack tls-reports`: how TLS went when others sent mail to us, as they report it (RFC 8460)."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import click

from mailstack.admin.operator import json_option, operator
from mailstack.admin.output import OperatorError, done, show_json, show_rows
from mailstack.mta import tls_report, tls_reports

_COLUMNS = ("id", "organization", "begins", "ends", "domains", "good", "bad")


@click.group("tls-reports")
def command() -> None:
    """Reports about TLS on the way to us. They come by mail to [mta] tls_reports_to, or from a file."""


@command.command("list")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The most reports.")
@json_option
def list_(limit: int, as_json: bool) -> None:
    """List the reports, newest first.

    Columns in a pipe: id, organization, begins, ends, domains, good sessions, bad sessions.

    Example: mailstack tls-reports list
    """
    rows = operator().read(tls_reports.listed, limit)
    show_rows(_COLUMNS, rows, as_json)


@command.command("show")
@click.argument("what", metavar="ID|FILE")
def show(what: str) -> None:
    """Show a report by its number, or one in a file: JSON, gzip or the mail it came in.

    Example: mailstack tls-reports show 3
    """
    if what.isascii() and what.isdecimal():
        content = operator().read(tls_reports.shown, int(what))
        if content is None:
            raise OperatorError(f"there is no report {what}")
        show_json(json.loads(gzip.decompress(content)))
    else:
        show_json(json.loads(_read(Path(what)).content))


@command.command("read")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def read(files: tuple[Path, ...], as_json: bool) -> None:
    """Keep the reports in files: JSON, gzip or the mail they came in.

    Example: mailstack tls-reports read report.json.gz
    """
    found = [_read(file) for file in files]
    now = time.time()
    new = sum(operator().write(tls_reports.keep, one, now) for one in found)
    known = len(found) - new
    done(f"kept {new}, known already {known}", {"kept": new, "known": known}, as_json)


def _read(file: Path) -> Any:
    try:
        return tls_report.read(file.read_bytes())
    except OSError as error:
        raise OperatorError(f"{file}: {error.strerror}") from error
    except tls_report.BadReport as error:
        raise OperatorError(f"{file}: {error}") from error
