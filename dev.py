#!/usr/bin/env python3
"""Everything a developer types, with nothing but Python 3.11 or newer:

  python3 dev.py run [--once]      two mail servers, one message through all six steps; then serve on
  python3 dev.py test [ARGS...]    the tests (arguments go to pytest)
  python3 dev.py lint              format, style, types, import layers
  python3 dev.py bench [ARGS...]   measure a running stack
  python3 dev.py clean             remove .venv and the caches

The first call makes a virtual environment in .venv beside this file and installs the project and its pinned
dependencies into it; later calls use it again until pyproject.toml, the pins or Python itself change.
"""

import configparser
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - this file meets every Python first
    sys.exit(
        "dev.py: Python 3.11 or newer is needed, this is {}.{}; try: python3.11 dev.py {}".format(
            *sys.version_info[:2], " ".join(sys.argv[1:]) or "run"
        )
    )
try:
    import fcntl
except ImportError:
    sys.exit("dev.py: mailstack runs on Linux and other POSIX systems; on Windows use WSL: wsl --install")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "mailstack-stamp.json"
CONSTRAINTS = ROOT / "deploy" / "constraints.txt"
WHEELS = Path("/usr/share/python-wheels")  # where Debian's python3-pip-whl puts pip
EXTRAS = {"run": (), "test": ("test",), "lint": ("lint", "test"), "bench": ()}
CACHES = (".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache")
INSTALL_VENV = "sudo apt-get update && sudo apt-get install -y python3-venv"


class Failed(Exception):
    """What went wrong, and the one command that helps."""

    def __init__(self, what: str, command: str):
        super().__init__(what)
        self.command = command


def main(arguments: list[str]) -> int:
    """Run one of the commands; return its exit status (2: wrong usage, 3: no environment could be made)."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if command in ("help", "-h", "--help"):
        print(__doc__.strip())
        return 0
    if command == "clean":
        return clean()
    if command not in EXTRAS:
        print(f"dev.py: no such command: {command}; see: python3 dev.py help", file=sys.stderr)
        return 2
    try:
        prepare(EXTRAS[command])
    except Failed as failure:
        print(f"dev.py: {failure}\n\nTry: {failure.command}", file=sys.stderr)
        return 3
    return COMMANDS[command](rest)


# The commands


def run(arguments: list[str]) -> int:
    """The journey: `mailstack journey`."""
    return become([str(VENV / "bin" / "mailstack"), "journey", *arguments])


def test(arguments: list[str]) -> int:
    """The tests, spread over the processors unless pytest is told otherwise."""
    spread = any(one.startswith(("-n", "--numprocesses", "--pdb")) for one in arguments)
    workers = max(2, min(4, os.cpu_count() or 2))
    return become([str(PYTHON), "-m", "pytest", *([] if spread else ["-n", str(workers)]), *arguments])


def lint(arguments: list[str]) -> int:
    """Every check, also after one has failed, so that one call shows all there is to mend."""
    checks = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["lint-imports"])
    failed = []
    for check in checks:
        say("lint: " + " ".join(check))
        if subprocess.call([str(VENV / "bin" / check[0]), *check[1:]], cwd=ROOT, env=environment()):
            failed.append(check[0])
    if failed:
        print(f"dev.py: lint failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def bench(arguments: list[str]) -> int:
    """The measurements of tests/bench."""
    return become([str(PYTHON), "-m", "tests.bench.bench_stack", *arguments])


def clean() -> int:
    """Remove what dev.py and the tools made."""
    with only_one():
        for name in (".venv", *CACHES):
            if (ROOT / name).exists():
                say(f"removing {name}")
                shutil.rmtree(ROOT / name)
        for cache in [*ROOT.rglob("__pycache__")]:
            shutil.rmtree(cache, ignore_errors=True)
    return 0


COMMANDS = {"run": run, "test": test, "lint": lint, "bench": bench}


def become(command: list[str]) -> int:
    """Give this process to the command: its signals and its exit status are the command's own."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execve(command[0], command, environment())


def environment() -> dict[str, str]:
    """Our environment variables, as after `source .venv/bin/activate`; but bytecode is kept."""
    dropped = ("PYTHONHOME", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {
        **kept,
        "VIRTUAL_ENV": str(VENV),
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }


# The virtual environment


def prepare(extras: tuple[str, ...]) -> None:
    """Have a virtual environment with the project and these extras; raise Failed."""
    if is_ready(extras):
        return
    with only_one():
        if is_ready(extras):  # somebody else has made it while we waited
            return
        start = time.monotonic()
        wanted = sorted({*extras, *installed_extras()})
        try:
            if stamp().get("python") != this_python() or not works():
                make_venv()
            install(wanted)
        except OSError as error:
            raise Failed(f"{error.filename or VENV}: {error.strerror}", "python3 dev.py clean") from error
        STAMP.write_text(json.dumps({"of": fingerprint(), "python": this_python(), "extras": wanted}))
        say(f".venv is ready after {time.monotonic() - start:.0f} s")


def is_ready(extras: tuple[str, ...]) -> bool:
    """Whether .venv was made from these very files by this Python, with these extras."""
    return stamp().get("of") == fingerprint() and set(extras) <= set(installed_extras()) and PYTHON.exists()


def stamp() -> dict:
    """What .venv says about itself; empty where there is none, or only half of one."""
    try:
        read = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def installed_extras() -> list[str]:
    """The extras of pyproject.toml that are in .venv already."""
    return stamp().get("extras", [])


def this_python() -> str:
    """The Python that makes the environment, and where the environment lies: it cannot be moved."""
    return f"{sys.version} {sys.base_prefix} {ROOT}"


def fingerprint() -> str:
    """A hash of everything that decides what must be in .venv."""
    digest = hashlib.sha256(this_python().encode())
    plugins = sorted((ROOT / "plugins").rglob("*.py"))  # an editable install holds a copy of the plugin
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, *plugins):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def works() -> bool:
    """Whether the Python of .venv still starts: the one it was made from may be gone."""
    return PYTHON.exists() and subprocess.call([str(PYTHON), "-c", ""], stderr=subprocess.DEVNULL) == 0


def make_venv() -> None:
    """A fresh .venv, with pip in it where Python brings pip."""
    shutil.rmtree(VENV, ignore_errors=True)
    has_pip = importlib.util.find_spec("ensurepip") is not None
    say(f"making .venv (Python {sys.version.split()[0]}{'' if has_pip else ', without ensurepip'})")
    command = [sys.executable, "-m", "venv", *([] if has_pip else ["--without-pip"]), str(VENV)]
    made = subprocess.run(command, capture_output=True, text=True, env=pip_environment())
    if made.returncode and has_pip:  # ensurepip is there but broken, as in some distributions
        shutil.rmtree(VENV, ignore_errors=True)
        command.insert(3, "--without-pip")
        made = subprocess.run(command, capture_output=True, text=True, env=pip_environment())
    if made.returncode:
        raise Failed(f"python3 -m venv failed:\n{tail(made.stdout + made.stderr)}", INSTALL_VENV)


def install(extras: list[str]) -> None:
    """The project, editable, with its dependencies exactly as pinned."""
    with tempfile.TemporaryDirectory(prefix="mailstack-pip-") as folder:
        pip = find_pip(Path(folder))
        say("installing the pinned packages (about a minute the first time)")
        # The build tools come first and from the same pins; a build in isolation would take any version.
        # A dependency that has no wheel needs setuptools, which Python 3.12 and later bring no more.
        call(pip, ["hatchling", "editables", "setuptools"])
        target = f".[{','.join(extras)}]" if extras else "."
        call(pip, ["--no-build-isolation", "--editable", target])


def call(pip: list[str], arguments: list[str]) -> None:
    """`pip install` with our pins, quiet unless it fails."""
    command = [*pip, "install", *quiet(pip), "-c", str(CONSTRAINTS), *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=pip_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        shown = " ".join(arguments)
        raise Failed(
            f"could not install {shown}:\n{tail(done.stdout + done.stderr)}\n"
            "Is the network up? Behind a mirror, set PIP_INDEX_URL.",
            "python3 dev.py clean && python3 dev.py " + (" ".join(sys.argv[1:]) or "run"),
        )


def quiet(pip: list[str]) -> list[str]:
    """uv knows fewer options than pip."""
    if Path(pip[0]).name == "uv":
        return ["--python", str(PYTHON), "--quiet"]
    return ["--quiet", "--disable-pip-version-check", "--no-input", "--no-warn-script-location"]


def pip_environment() -> dict[str, str]:
    """Without what would make pip install to somewhere else."""
    elsewhere = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_HASHES", "PIP_NO_DEPS")
    return {name: value for name, value in environment().items() if name not in elsewhere}


# pip, where the virtual environment has none


def find_pip(folder: Path) -> list[str]:
    """A command that acts as the pip of .venv; `folder` may keep what it needs. Raises Failed."""
    for source in (pip_of_venv, pip_of_system, wheel_of_system, uv, wheel_by_apt, wheel_of_index):
        found = source(folder)
        if found:
            return found
    raise Failed("this Python has neither ensurepip nor pip, and no pip could be had", INSTALL_VENV)


def pip_of_venv(folder: Path) -> list[str] | None:
    """The usual case."""
    return accepted([str(PYTHON), "-m", "pip"])


def pip_of_system(folder: Path) -> list[str] | None:
    """The pip of the Python that runs us, told to act on .venv (pip 22.3 and newer)."""
    return accepted([sys.executable, "-m", "pip", "--python", str(PYTHON)])


def wheel_of_system(folder: Path) -> list[str] | None:
    """A pip wheel that the distribution installed for its own venv."""
    return runnable(sorted(WHEELS.glob("pip-*.whl")))


def uv(folder: Path) -> list[str] | None:
    """uv installs into any environment."""
    found = shutil.which("uv")
    return [found, "pip"] if found else None


def wheel_by_apt(folder: Path) -> list[str] | None:
    """The same wheel out of Debian's package: fetching one needs no root, only installing would."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    say("fetching pip with apt-get")
    if subprocess.run(["apt-get", "download", "python3-pip-whl"], cwd=folder, capture_output=True).returncode:
        return None
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], capture_output=True)
    return runnable(sorted(folder.rglob("pip-*.whl")))


def wheel_of_index(folder: Path) -> list[str] | None:
    """The newest pip of the package index that pip is set to use, checked against the index's own hash."""
    index = configured_index()
    if index is None:
        return None
    say("fetching pip from the package index")
    try:
        address, digest = newest_pip(index)
        with urllib.request.urlopen(address, timeout=60) as answer:
            data = answer.read()
    except (OSError, ValueError, LookupError, urllib.error.URLError):
        return None
    if hashlib.sha256(data).hexdigest() != digest:
        return None
    wheel = folder / "pip.whl"
    wheel.write_bytes(data)
    return runnable([wheel])


def configured_index() -> str | None:
    """PIP_INDEX_URL, or index-url of a pip.conf."""
    if os.environ.get("PIP_INDEX_URL"):
        return os.environ["PIP_INDEX_URL"]
    parser = configparser.RawConfigParser()
    named = os.environ.get("PIP_CONFIG_FILE")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        parser.read(["/etc/pip.conf", home / "pip" / "pip.conf", *([named] if named else [])])
    return parser.get("global", "index-url", fallback=None)


def newest_pip(index: str) -> tuple[str, str]:
    """Address and SHA-256 of the newest released wheel of pip, by the index's JSON (PEP 691, PEP 700)."""
    page = index.rstrip("/") + "/pip/"
    request = urllib.request.Request(page, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = [
        file
        for file in files
        if file["filename"].endswith(".whl")
        and file["filename"].split("-")[1].replace(".", "").isdigit()  # no alpha, beta or candidate
        and not file.get("yanked")
        and file.get("hashes", {}).get("sha256")
    ]
    newest = max(wheels, key=lambda file: file.get("upload-time", ""))
    return urllib.parse.urljoin(page, newest["url"]), newest["hashes"]["sha256"]


def runnable(wheels: list[Path]) -> list[str] | None:
    """pip runs out of its own wheel, which is a zip file."""
    return accepted([str(PYTHON), f"{wheels[-1]}/pip"]) if wheels else None


def accepted(command: list[str]) -> list[str] | None:
    """The command, if there is a pip behind it."""
    asked = [*command, "--version"]
    found = subprocess.run(asked, capture_output=True, env=pip_environment()).returncode == 0
    return command if found else None


# Small things


@contextlib.contextmanager
def only_one():
    """Hold the right to change .venv: other calls of dev.py in this folder wait."""
    with open(__file__, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another dev.py is at work on .venv; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(line: str) -> None:
    """A line of progress."""
    print(f"dev.py: {line}", file=sys.stderr, flush=True)


def tail(text: str, lines: int = 15) -> str:
    """The end of a program's output, indented."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
