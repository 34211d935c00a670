"""deploy/: the unit, the container and the zone, as far as they can be looked at without running them."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import dns.zone
import pytest

from mailstack.admin.cli import cli
from mailstack.net.settings import SERVICES, ListenersConfig

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
PORTS = {name: getattr(ListenersConfig(), name) for name in SERVICES}


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "mailstack.service")
    return parser


def test_the_unit_starts_the_command_with_settings_from_its_own_folder() -> None:
    service = unit()["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "mailstack"
    parsed = cli.make_context("mailstack", words, resilient_parsing=True)
    assert Path(parsed.params["file"]).parent == Path("/var/lib") / service["StateDirectory"]
    assert words[-1] == "serve"
    assert "serve" in cli.list_commands(parsed)


def test_the_unit_is_never_root_and_has_one_capability() -> None:
    service = unit()["Service"]
    assert service["User"] == "mailstack"
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    # cffi's callbacks, which pyOpenSSL uses, raise MemoryError under it: the service would not start.
    assert "MemoryDenyWriteExecute" not in service


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_understands_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    path = tmp_path / "mailstack.service"
    text = (DEPLOY / "mailstack.service").read_text()
    path.write_text(text.replace("/opt/mailstack/bin/mailstack", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    complaints = [line for line in verified.stderr.splitlines() if "mailstack.service" in line]
    assert (verified.returncode, complaints) == (0, [])
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", path]
    judged = subprocess.run(command, capture_output=True, text=True)
    if "unrecognized option" in judged.stderr:
        pytest.skip("this systemd-analyze judges no files")
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def test_the_container_has_known_instructions_and_ends_as_a_user_of_its_own() -> None:
    found = instructions()
    assert {name for name, _ in found} <= {
        "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK",
        "ENTRYPOINT", "CMD",
    }  # fmt: skip
    last_stage = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    assert [value for name, value in last_stage if name == "USER"] == ["mailstack"]
    assert ("ENTRYPOINT", '["mailstack"]') in last_stage


def test_what_the_container_copies_is_in_the_project() -> None:
    for name, value in instructions():
        if name == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                assert (ROOT / source).exists(), source


def test_the_container_exposes_our_ports() -> None:
    [exposed] = [value for name, value in instructions() if name == "EXPOSE"]
    assert sorted(map(int, exposed.split())) == sorted(PORTS.values())


def test_the_zone_names_our_services_and_ports() -> None:
    zone = dns.zone.from_text((DEPLOY / "dns-records.zone").read_text(), check_origin=False, relativize=False)
    named = {
        name.labels[0].decode().removeprefix("_"): record.port
        for name, _, record in zone.iterate_rdatas("SRV")
    }
    assert named == {name: port for name, port in PORTS.items() if name != "smtp"}
    assert len(list(zone.iterate_rdatas("MX"))) == 1
    assert [len(list(zone.iterate_rdatas(kind))) for kind in ("A", "AAAA", "TXT")] == [1, 1, 2]


def test_the_command_of_ci_is_a_whole_script() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    for command in ("dev.py lint", "dev.py test", "dev.py run --once"):
        assert command in script.read_text()


def test_the_first_lines_of_the_readme_are_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()[:6]
    assert any(line.startswith("python3 dev.py run ") for line in lines)
    assert any(line.startswith("python3 dev.py test ") for line in lines)


def test_every_page_that_is_linked_is_there() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_index_links_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name
