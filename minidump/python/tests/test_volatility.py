"""Volatility 3 on dumps, with the plugins of the package.

They need the package volatility3, which tests/python does not install; docs/volatility.md has the command.
LIVECORE_VOLATILITY_PLUGINS names a checkout of Volatility with plugins for FreeBSD, and LIVECORE_KERNEL and
LIVECORE_DUMP a real kernel with type information and a dump of it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import livecore
from conftest import document, run

pytest.importorskip("volatility3", reason="volatility3 is not installed")

import livecore.volatility  # noqa: E402

VOL = "import sys, volatility3.cli; sys.argv[0] = 'vol'; sys.exit(volatility3.cli.main())"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory for Volatility's cache."""
    return tmp_path_factory.mktemp("home")


def vol(home, dump, plugin, kernel, *, checkout=None):
    """The rows that a plugin prints."""
    path = [checkout] if checkout else []
    environment = {
        **os.environ,
        "HOME": str(home),
        "LIVECORE_KERNEL": str(kernel),
        "PYTHONPATH": os.pathsep.join(path),
    }
    command = [sys.executable, "-c", VOL, "-q", "-r", "json", "-p", livecore.volatility.PLUGINS]
    done = subprocess.run(
        [*map(str, command), "-f", str(dump), plugin],
        capture_output=True,
        text=True,
        env=environment,
        cwd=home,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("[") :])


@pytest.fixture(scope="module")
def real():
    """A real kernel with type information, and a dump of it."""
    found = [os.environ.get(name) for name in ("LIVECORE_KERNEL", "LIVECORE_DUMP")]
    if not all(found):
        pytest.skip("LIVECORE_KERNEL and LIVECORE_DUMP are not set: no real kernel with types")
    return [Path(path) for path in found]


def test_the_module_prints_the_directory_of_the_plugins():
    command = [sys.executable, "-m", "livecore.volatility"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert Path(printed.strip()) == livecore.volatility.PLUGINS
    assert (livecore.volatility.PLUGINS / "livecore/pslist.py").is_file()


def test_isf_follows_the_schema_of_volatility(machine, tmp_path):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schemas = Path(sys.modules["volatility3"].__file__).parent / "schemas"
    schema = json.loads((schemas / "schema-6.2.0.json").read_text())
    made = machine("debug")
    livecore.isf(made.kernel, tmp_path / "kernel.json")
    isf = json.loads((tmp_path / "kernel.json").read_text())
    jsonschema.validate(isf, schema)
    assert isf["user_types"]["proc"]["size"] > 0
    assert "allproc" in isf["symbols"]
    with pytest.raises(FileExistsError):
        livecore.isf(made.kernel, tmp_path / "kernel.json")
    livecore.isf(made.kernel, tmp_path / "kernel.json", force=True)


def test_plugins_agree_with_livecore_on_an_emulated_machine(machine, home):
    made = machine("debug")
    expected = document("ps", made.path, "--kernel", made.kernel)
    expected = {(found["pid"], found["command"]) for found in expected["processes"]}
    listed = vol(home, made.path, "livecore.pslist.PsList", made.kernel)
    assert {(row["PID"], row["Command"]) for row in listed} <= expected
    assert listed


@pytest.mark.parametrize("form", ["given", "saved", "gzip", "full", "elf"])
def test_every_container_and_codec_gives_the_same_processes(real, home, tmp_path, form):
    kernel, dump = real
    path = tmp_path / "vmcore.0"
    options = {
        "saved": ["--none", "--container", "saved"],
        "gzip": ["--gzip", "--container", "saved"],
        "full": ["--to", "full"],
        "elf": ["--to", "elf", "--kernel", kernel],
    }
    if form == "given":
        path = dump
    else:
        run("convert", dump, path, *options[form])
    with livecore.open(path, kernel=kernel) as found:
        expected = [
            (process.pid, process.ppid or 0, process.command, process.address)
            for process in found.processes()
            if not process.zombie
        ]
    rows = vol(home, path, "livecore.pslist.PsList", kernel)
    assert [(r["PID"], r["PPID"], r["Command"], r["Offset"]) for r in rows] == expected


def test_scan_finds_the_listed_processes(real, home):
    kernel, dump = real
    rows = vol(home, dump, "livecore.psscan.PsScan", kernel)
    listed = vol(home, dump, "livecore.pslist.PsList", kernel)
    assert {r["PID"] for r in rows if r["Listed"] == "yes"} == {r["PID"] for r in listed}


def test_messages_and_modules_are_those_of_livecore(real, home):
    kernel, dump = real
    with livecore.open(dump, kernel=kernel) as found:
        text = found.dmesg(all=True).splitlines()
        modules = [(module.id, module.name) for module in found.modules()]
    rows = [row["Message"] for row in vol(home, dump, "livecore.dmesg.Dmesg", kernel)]
    # The message buffer is a copy from the time of the dump, and memory from shortly before.
    assert rows[:50] == text[:50]
    rows = vol(home, dump, "livecore.kldstat.Kldstat", kernel)
    assert [(row["Id"], row["Name"]) for row in rows] == modules


def test_plugins_need_no_types_of_variables(real, home, tmp_path):
    """As with a stock kernel, whose CTF has none."""
    kernel, dump = real
    listed = vol(home, dump, "livecore.pslist.PsList", kernel)
    empty = tmp_path / "home"
    made = next(home.glob(".cache/volatility3/livecore_*.json"))
    isf = json.loads(made.read_text())
    for symbol in isf["symbols"].values():
        symbol.pop("type", None)
    cache = empty / ".cache/volatility3"
    cache.mkdir(parents=True)
    (cache / made.name).write_text(json.dumps(isf))
    assert vol(empty, dump, "livecore.pslist.PsList", kernel) == listed
    assert vol(empty, dump, "livecore.kldstat.Kldstat", kernel)
    assert vol(empty, dump, "livecore.dmesg.Dmesg", kernel)


def test_plugins_of_others_run(real, home):
    kernel, dump = real
    checkout = os.environ.get("LIVECORE_VOLATILITY_PLUGINS")
    if not checkout:
        pytest.skip("LIVECORE_VOLATILITY_PLUGINS is not set: no plugins for FreeBSD")
    own = vol(home, dump, "livecore.pslist.PsList", kernel)
    rows = vol(home, dump, "freebsd.pslist.PsList", kernel, checkout=checkout)
    assert [row["PID"] for row in rows] == [row["PID"] for row in own]
    for plugin in ["pstree.PsTree", "lsof.Lsof", "mount.Mount", "lskld.LsKld", "lsmod.LsMod"]:
        assert vol(home, dump, f"freebsd.{plugin}", kernel, checkout=checkout), plugin


def test_other_files_are_left_to_volatility(home, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    command = [sys.executable, "-c", VOL, "-q", "-p", str(livecore.volatility.PLUGINS)]
    done = subprocess.run(
        [*command, "-f", str(path), "livecore.pslist.PsList"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(home)},
    )
    assert done.returncode != 0
    assert "Unable to validate the plugin requirements" in done.stdout + done.stderr


def test_hostile_dumps_do_not_end_volatility(real, home, tmp_path):
    """Bytes of a real dump are changed, so that lists of the kernel are damaged."""
    kernel, dump = real
    if shutil.disk_usage(tmp_path).free < 1 << 30:
        pytest.skip("less than 1 GiB is free")
    path = tmp_path / "vmcore.0"
    run("convert", dump, path, "--none", "--container", "saved")
    with livecore.open(path, kernel=kernel) as found:
        head = found.symbols["allproc"]
        first = int.from_bytes(found.read(head, 8), "little")
        image = path.read_bytes()
        page = found.read(first, 64)
    at = image.index(page)
    for value in (first, 0, 0xFFFFFFFFFFFFFFF8, 0xFFFFFE0000000000):
        # le_next of the first process: itself, none, and addresses that are not mapped.
        path.write_bytes(image[:at] + value.to_bytes(8, "little") + image[at + 8 :])
        command = [sys.executable, "-c", VOL, "-q", "-p", str(livecore.volatility.PLUGINS)]
        done = subprocess.run(
            [*command, "-f", str(path), "livecore.pslist.PsList"],
            capture_output=True,
            text=True,
            env={**os.environ, "HOME": str(home), "LIVECORE_KERNEL": str(kernel)},
            timeout=300,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
