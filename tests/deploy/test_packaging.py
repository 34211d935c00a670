"""The plugin and the package's data, in an editable install and in a built wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import twisted

ROOT = Path(__file__).parent.parent.parent
TWISTD = Path(sys.executable).parent / "twistd"

FIND_PLUGIN = """
import sys
from twisted.plugin import getPlugins
from twisted.application.service import IServiceMaker
print([plugin.tapname for plugin in getPlugins(IServiceMaker) if plugin.tapname == "mailstack"])
import twisted.plugins.mailstack_plugin as module
print(module.__file__)
print("reactor" if "twisted.internet.reactor" in sys.modules else "no reactor")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a wheel, built from a copy."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not here")
    source = tmp_path_factory.mktemp("source")
    for name in ("mailstack", "plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(source / "dist")]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [built] = (source / "dist").iterdir()
    return built


@pytest.mark.skipif(not TWISTD.exists(), reason="twistd is not beside this Python")
def test_twistd_knows_us_where_we_are_installed() -> None:
    done = subprocess.run([TWISTD, "mailstack", "--help"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--config=" in done.stdout
    assert "--set=" in done.stdout


def test_the_wheel_has_the_plugin_the_migrations_and_nothing_strange(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "twisted/plugins/mailstack_plugin.py" in names
    assert "mailstack/db/migrations/env.py" in names
    assert any(name.startswith("mailstack/db/migrations/versions/v") for name in names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mailstack", "twisted"}
    assert not [name for name in names if name.endswith(".pyc")]


def test_a_wheel_that_is_installed_brings_the_plugin(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    _without_mailstack(Path(twisted.__file__).parent.parent, site)
    zipfile.ZipFile(wheel).extractall(site)
    # -S: no .pth file of this environment, so that its own editable mailstack is out of sight.
    command = [sys.executable, "-S", "-c", FIND_PLUGIN]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment)
    assert done.stdout.splitlines() == [
        "['mailstack']",
        str(site / "twisted" / "plugins" / "mailstack_plugin.py"),
        "no reactor",
    ], done.stderr


def _without_mailstack(packages: Path, site: Path) -> None:
    """The packages of an environment, by links, but without our plugin among Twisted's."""
    plugins = site / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    for path in packages.iterdir():
        if path.name != "twisted" and "mailstack" not in path.name:
            (site / path.name).symlink_to(path)
    for path in (packages / "twisted").iterdir():
        if path.name != "plugins":
            (site / "twisted" / path.name).symlink_to(path)
    for path in (packages / "twisted" / "plugins").glob("*.py"):
        if "mailstack" not in path.name:
            shutil.copy(path, plugins)
