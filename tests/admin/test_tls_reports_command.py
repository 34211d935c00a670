"""`mailstack tls-reports`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.mta.test_tls_reports import report


def test_read_list_show(installation: Any, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_bytes(report())
    assert installation.ok("tls-reports", "read", str(file)) == "kept 1, known already 0\n"
    assert installation.ok("tls-reports", "read", str(file)) == "kept 0, known already 1\n"
    [row] = installation.json("tls-reports", "list")
    assert (row["organization"], row["good"], row["bad"]) == ("mail.a.test", 8, 2)
    assert '"report-id": "id1"' in installation.ok("tls-reports", "show", str(row["id"]))
    assert '"report-id": "id1"' in installation.ok("tls-reports", "show", str(file))
