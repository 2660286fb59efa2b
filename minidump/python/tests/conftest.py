"""Dumps for the tests, and a summary as cargo prints it.

LIVECORE and MKDUMP name the programs; tests/python sets them.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

import livecore

ROOT = Path(__file__).resolve().parents[3]


def program(name):
    path = os.environ.get(name)
    if not path:
        pytest.skip(f"{name} is not set: run tests/python")
    return path


def run(*args):
    """Runs the program livecore and returns its standard output."""
    args = [program("LIVECORE"), *map(str, args)]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


def document(*args):
    """The JSON document that the program livecore prints."""
    return json.loads(run(*args, "--json"))


class Machine:
    """A dump of an emulated machine, its memory image and its kernel."""

    def __init__(self, name, directory, *options):
        self.directory = directory / name
        run("synth", ROOT / "testdata/machines" / f"{name}.toml", "--out", self.directory)
        self.kernel = self.directory / "kernel"
        self.path = directory / f"{name}.zst"
        run("take", "--image", self.directory, "--kernel", self.kernel, *options, "-o", self.path)

    def open(self):
        return livecore.open(self.path, kernel=self.kernel)


@pytest.fixture(scope="session")
def machine(tmp_path_factory):
    """A function that returns the machine of this name in testdata/machines."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = Machine(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    """A function that builds the recipe of this name in testdata/dumps."""
    directory = tmp_path_factory.mktemp("recipes")

    def build(name):
        out = directory / name
        if not out.exists():
            source = ROOT / "testdata/dumps" / f"{name}.dump"
            subprocess.run([program("MKDUMP"), source, "-o", out], check=True)
        return out

    return build


@pytest.fixture
def tiny(machine):
    return machine("tiny")


@pytest.fixture
def dump(tiny):
    with tiny.open() as dump:
        yield dump


def pytest_terminal_summary(terminalreporter):
    """Prints what tests/all counts. There, a skipped test is one that passed."""
    count = {
        word: terminalreporter.stats.get(word, []) for word in ("passed", "failed", "error", "skipped")
    }
    for report in count["skipped"]:
        reason = report.longrepr[2].removeprefix("Skipped: ")
        terminalreporter.write_line(f"skipped: {reason}")
    failed = count["failed"] + count["error"]
    for report in failed:
        terminalreporter.write_line(f"python {report.nodeid} ... FAILED")
    passed = len(count["passed"]) + len(count["skipped"])
    word = "FAILED" if failed else "ok"
    terminalreporter.write_line(
        f"test result: {word}. {passed} passed; {len(failed)} failed; 0 ignored"
    )
