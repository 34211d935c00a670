"""dev.py: what it decides, without a network: no environment is really made here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.running import PATIENCE

SCRIPT = Path(__file__).parent.parent / "dev.py"


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, at home in an empty folder."""
    spec = importlib.util.spec_from_file_location("dev_under_test", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "constraints.txt").write_text("one==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    names: dict[str, Path] = {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "PYTHON": tmp_path / ".venv" / "bin" / "python",
        "STAMP": tmp_path / ".venv" / "stamp.json",
        "CONSTRAINTS": tmp_path / "deploy" / "constraints.txt",
    }
    for name, value in names.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def made(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been made and installed; the folder is made, with a Python that starts."""
    calls: list[Any] = []

    def make_venv() -> None:
        calls.append("venv")
        dev.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        dev.PYTHON.unlink(missing_ok=True)
        dev.PYTHON.symlink_to(sys.executable)

    monkeypatch.setattr(dev, "make_venv", make_venv)
    monkeypatch.setattr(dev, "install", lambda extras: calls.append(list(extras)))
    return calls


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)


def test_help_names_every_command() -> None:
    done = script("--help")
    assert done.returncode == 0
    for command in ("run [--once]", "test", "lint", "bench", "clean"):
        assert f"dev.py {command}" in done.stdout


def test_an_unknown_command() -> None:
    done = script("tset")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dev.py: no such command: tset; see: python3 dev.py help\n"


def test_an_old_python_is_told_what_to_type() -> None:
    program = (
        "import sys, runpy; sys.version_info = (3, 9, 2, 'final', 0); sys.argv = ['dev.py', 'test', '-x'];"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "dev.py: Python 3.11 or newer is needed, this is 3.9; try: python3.11 dev.py test -x"
    )


def test_the_environment_is_made_once_and_used_again(dev: ModuleType, made: list[Any]) -> None:
    dev.prepare(())
    dev.prepare(())
    assert made == ["venv", []]


def test_extras_are_added_and_kept(dev: ModuleType, made: list[Any]) -> None:
    dev.prepare(("test",))
    dev.prepare(("lint", "test"))
    dev.prepare(())
    assert made == ["venv", ["test"], ["lint", "test"]]
    (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'changed'\n")
    dev.prepare(())
    assert made[-1] == ["lint", "test"]


@pytest.mark.parametrize("name", ["pyproject.toml", "deploy/constraints.txt", "plugins/x.py"])
def test_a_changed_file_installs_again(dev: ModuleType, made: list[Any], name: str) -> None:
    dev.prepare(())
    (dev.ROOT / "plugins").mkdir()
    (dev.ROOT / name).write_text("# changed\n")
    dev.prepare(())
    assert made == ["venv", [], []]


def test_another_python_makes_it_anew(
    dev: ModuleType, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dev.prepare(())
    monkeypatch.setattr(dev, "this_python", lambda: "another")
    dev.prepare(())
    assert made == ["venv", [], "venv", []]


def test_a_python_that_does_not_start_makes_it_anew(dev: ModuleType, made: list[Any]) -> None:
    dev.prepare(())
    dev.STAMP.write_text(dev.STAMP.read_text().replace('"of": "', '"of": "old'))
    dev.PYTHON.unlink()
    dev.PYTHON.symlink_to("/nonexistent/python")
    dev.prepare(())
    assert made == ["venv", [], "venv", []]


@pytest.mark.parametrize("stamp", ["", "{", "[]", "null", '"x"', "\x00"])
def test_a_broken_stamp_is_no_stamp(dev: ModuleType, made: list[Any], stamp: str) -> None:
    dev.prepare(())
    dev.STAMP.write_text(stamp)
    dev.prepare(())
    assert made == ["venv", [], "venv", []]


def test_an_interrupted_installation_is_not_taken_for_done(
    dev: ModuleType, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(extras: list[str]) -> None:
        raise dev.Failed("no network", "try again")

    with monkeypatch.context() as patched:
        patched.setattr(dev, "install", fail)
        with pytest.raises(dev.Failed):
            dev.prepare(())
    assert not dev.is_ready(())
    dev.prepare(())
    assert dev.is_ready(())


def test_of_two_at_once_one_waits_for_the_other(
    dev: ModuleType, made: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = threading.Event()
    say = dev.say

    def tell(line: str) -> None:
        say(line)
        if "waiting" in line:
            waiting.set()

    monkeypatch.setattr(dev, "say", tell)
    with dev.only_one():
        second = threading.Thread(target=dev.prepare, args=((),))
        second.start()
        assert waiting.wait(PATIENCE)
        assert made == []
        dev.make_venv()
        dev.STAMP.write_text(json.dumps({"of": dev.fingerprint(), "extras": []}))
    second.join(PATIENCE)
    assert made == ["venv"]  # ours; the second found it ready
    assert "another dev.py is at work on .venv; waiting" in capsys.readouterr().err


def test_a_failure_says_what_and_which_command_helps(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(extras: tuple[str, ...]) -> None:
        raise dev.Failed("no pip could be had", "sudo apt-get install python3-venv")

    monkeypatch.setattr(dev, "prepare", fail)
    assert dev.main(["run"]) == 3
    assert capsys.readouterr().err == (
        "dev.py: no pip could be had\n\nTry: sudo apt-get install python3-venv\n"
    )


def test_where_pip_comes_from(dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = ["pip_of_venv", "pip_of_system", "wheel_of_system", "uv", "wheel_by_apt", "wheel_of_index"]
    asked: list[str] = []

    def source(name: str, answer: list[str] | None) -> Any:
        def ask(folder: Path) -> list[str] | None:
            asked.append(name)
            return answer

        return ask

    for name in order:
        monkeypatch.setattr(dev, name, source(name, None))
    with pytest.raises(dev.Failed) as raised:
        dev.find_pip(tmp_path)
    assert asked == order
    assert raised.value.command == dev.INSTALL_VENV
    monkeypatch.setattr(dev, "wheel_by_apt", source("wheel_by_apt", ["pip from apt"]))
    assert dev.find_pip(tmp_path) == ["pip from apt"]


def test_lint_goes_on_after_a_failure(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = dev.VENV / "bin"
    programs.mkdir(parents=True)
    for name, status in (("ruff", 1), ("mypy", 0), ("lint-imports", 1)):
        (programs / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (programs / name).chmod(0o755)
    assert dev.lint([]) == 1
    errors = capsys.readouterr().err
    assert "lint: mypy" in errors
    assert errors.endswith("dev.py: lint failed: ruff, ruff, lint-imports\n")


@pytest.mark.parametrize(
    ("arguments", "spread"), [([], True), (["-k", "x"], True), (["-n0"], False), (["-n", "3"], False), (["--pdb"], False)]
)  # fmt: skip
def test_tests_are_spread_over_the_processors(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], spread: bool
) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr(dev, "become", lambda command: became.append(command) or 0)
    dev.test(arguments)
    [command] = became
    assert command[:3] == [str(dev.PYTHON), "-m", "pytest"]
    assert command[3:] == (["-n", command[4]] if spread else []) + arguments


def test_what_would_install_elsewhere_is_kept_from_pip(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", "/x")
    monkeypatch.setenv("PYTHONPATH", "/y")
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror.example/simple")
    kept = dev.pip_environment()
    assert not {"PIP_USER", "PIP_TARGET", "PYTHONPATH"} & set(kept)
    assert kept["PIP_INDEX_URL"] == "http://mirror.example/simple"
    assert kept["VIRTUAL_ENV"] == str(dev.VENV)


WHEELS = {  # file name: (upload time, yanked, content)
    "pip-9.0-py3-none-any.whl": ("2020-01-01T00:00:00Z", False, b"old"),
    "pip-26.1-py3-none-any.whl": ("2026-05-01T00:00:00Z", False, b"newest"),
    "pip-26.0-py3-none-any.whl": ("2026-04-01T00:00:00Z", False, b"newer"),
    "pip-27.0b1-py3-none-any.whl": ("2026-07-01T00:00:00Z", False, b"beta"),
    "pip-26.2-py3-none-any.whl": ("2026-08-01T00:00:00Z", True, b"yanked"),
    "pip-26.3.tar.gz": ("2026-09-01T00:00:00Z", False, b"source"),
}


@contextmanager
def package_index(changed: bytes = b"") -> Iterator[str]:
    """An index on loopback with the wheels above; `changed` is appended to what is downloaded."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if self.path == "/simple/pip/":
                data = json.dumps({"files": [self.described(name) for name in WHEELS]}).encode()
            else:
                data = WHEELS[name][2] + changed
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def described(self, name: str) -> dict[str, Any]:
            time, yanked, content = WHEELS[name]
            digest = hashlib.sha256(content).hexdigest()
            return {
                "filename": name, "url": f"../../files/{name}", "upload-time": time, "yanked": yanked,
                "hashes": {"sha256": digest},
            }  # fmt: skip

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        finally:
            server.shutdown()
            thread.join()


def test_the_newest_released_pip_of_the_index(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dev, "accepted", lambda command: command)
    with package_index() as index:
        monkeypatch.setenv("PIP_INDEX_URL", index)
        assert dev.wheel_of_index(tmp_path) == [str(dev.PYTHON), f"{tmp_path}/pip.whl/pip"]
    assert (tmp_path / "pip.whl").read_bytes() == b"newest"


def test_a_pip_with_another_hash_is_not_run(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dev, "accepted", lambda command: command)
    with package_index(changed=b"!") as index:
        monkeypatch.setenv("PIP_INDEX_URL", index)
        assert dev.wheel_of_index(tmp_path) is None
    assert not (tmp_path / "pip.whl").exists()


def test_an_index_that_is_away_is_no_error(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with package_index() as index:
        pass
    monkeypatch.setenv("PIP_INDEX_URL", index)
    assert dev.wheel_of_index(tmp_path) is None


def test_the_index_of_a_pip_conf(dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    conf = tmp_path / "my-pip.conf"
    conf.write_text("[global]\nindex-url = http://mirror.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(conf))
    assert dev.configured_index() == "http://mirror.example/simple"


def test_clean_removes_what_was_made(dev: ModuleType, made: list[Any]) -> None:
    dev.prepare(())
    (dev.ROOT / ".mypy_cache").mkdir()
    (dev.ROOT / "mailstack" / "__pycache__").mkdir(parents=True)
    assert dev.clean() == 0
    assert sorted(path.name for path in dev.ROOT.iterdir()) == ["deploy", "mailstack", "pyproject.toml"]
    assert list((dev.ROOT / "mailstack").iterdir()) == []


def test_the_pins_are_exact_and_cover_what_the_project_asks_for(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(dev, "find_pip", lambda _: ["pip"])
    monkeypatch.setattr(dev, "call", lambda _, words: installed.append(words))
    dev.install(["test"])
    [tools, _] = installed  # what builds the project, and what of its dependencies has no wheel
    root = SCRIPT.parent
    lines = [
        line
        for line in (root / "deploy" / "constraints.txt").read_text().splitlines()
        if line[:1] not in ("", "#")
    ]
    assert all(line.count("==") == 1 and " " not in line for line in lines), lines
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [
        *tools,
        *project["dependencies"],
        *(one for many in project["optional-dependencies"].values() for one in many),
    ]
    names = {one.partition(">")[0].partition("[")[0].lower().replace("_", "-") for one in wanted}
    assert "setuptools" in names  # Python 3.12 and later bring none
    assert names <= {line.partition("==")[0].lower().replace("_", "-") for line in lines}
