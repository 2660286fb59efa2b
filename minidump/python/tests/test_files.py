"""Facts, verification, conversion and comparison."""

import json
import os
import signal
import subprocess
import sys

import pytest

import livecore
from conftest import document, run


@pytest.mark.parametrize("name", ["amd64-v3", "arm64-v3-16k", "full-amd64", "amd64-v3-wrapped-msgbuf"])
def test_facts_are_those_of_the_program(recipe, name):
    path = recipe(name)
    with livecore.open(path) as dump:
        assert dump.info() == document("info", path)


def test_facts_of_a_stream_without_an_index_include_its_end(tiny, tmp_path):
    path = tmp_path / "vmcore.0.gz"
    with tiny.open() as dump:
        dump.convert(path, container="saved")
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 1000)
    with livecore.open(path) as dump:
        facts = dump.info()
        assert facts == document("info", path)
        assert "trailing-bytes" in facts["warning_ids"]


def test_sound_dump_has_no_findings(tiny, dump):
    report = dump.verify(depth="deep")
    assert (report.verdict, report.errors, report.warnings, report.findings) == ("sound", 0, 0, [])
    of_program = json.loads(
        run("verify", "--deep", "--json", "--kernel", tiny.kernel, tiny.path)
    )["reports"][0]
    found = report.to_dict()
    assert found["rules"] == of_program["rules"]
    assert found["facts"] == of_program["facts"]


def test_findings_have_their_rule_and_place(recipe):
    report = livecore.verify(recipe("device-parity-wrong"))
    assert report.verdict == "broken"
    [finding] = [found for found in report.findings if found.rule == "KDH-PARITY"]
    assert finding.severity == "error" and finding.space == "file"
    assert finding.region and finding.found and finding.expected and finding.claim
    assert finding.offset > 0
    assert str(finding).startswith("KDH-PARITY, ")
    assert not livecore.verify(recipe("device-parity-wrong"), skip=["*"]).findings
    only = livecore.verify(recipe("device-parity-wrong"), only=["KDH-PARITY"], depth="quick")
    assert [found.rule for found in only.findings] == ["KDH-PARITY"]


def test_options_of_verify_are_checked(dump):
    with pytest.raises(ValueError):
        dump.verify(depth="deepest")
    with pytest.raises(ValueError):
        dump.verify(only=["NO-SUCH-RULE"])
    assert livecore.verify(__file__).verdict == "not-a-dump"
    with pytest.raises(FileNotFoundError):
        livecore.verify("/no/such/dump")


@pytest.mark.parametrize("to", [None, "full", "elf", "minidump"])
def test_converted_dump_has_the_same_memory(dump, tmp_path, to):
    out = tmp_path / "out.zst"
    written = dump.convert(out, to)
    assert (written.path, written.codec, written.file_size) == (out, "zstd", out.stat().st_size)
    assert os.stat(out).st_mode & 0o777 == 0o600
    comparison = dump.compare(out)
    assert (comparison.answer, comparison.differ, comparison.only_a) == ("same", 0, 0)
    assert comparison.same == dump.page_count


def test_containers_and_codecs_are_those_of_the_program(tiny, dump, tmp_path):
    for codec in ("none", "gzip", "zstd"):
        for container in ("sealed", "saved", "raw"):
            a, b = tmp_path / f"a.{codec}.{container}", tmp_path / f"b.{codec}.{container}"
            dump.convert(a, codec=codec, container=container)
            run("convert", f"--{codec}", "--container", container, tiny.path, b)
            assert a.read_bytes() == b.read_bytes(), (codec, container)
    assert dump.convert(tmp_path / "core", "elf").container == "saved"


def test_output_exists_only_complete_and_never_replaces_a_file(dump, tmp_path):
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(FileExistsError):
        dump.convert(out)
    assert out.read_text() == "mine"
    dump.convert(out, force=True)
    for wrong in ({"to": "x"}, {"codec": "xz"}, {"container": "device"}, {"notes": "x"}):
        with pytest.raises(ValueError):
            dump.convert(tmp_path / "other", **wrong)
    with pytest.raises(livecore.Error):
        dump.convert(tmp_path)
    with pytest.raises(OSError):
        dump.convert(tmp_path / "no" / "directory")
    assert os.listdir(tmp_path) == ["out"]


def test_different_dumps_differ(tiny, machine):
    comparison = livecore.compare(tiny.path, machine("debug").path)
    assert comparison.answer == "differ"
    assert comparison.differ + comparison.only_a + comparison.only_b > 0
    assert comparison.to_dict()["answer"] == "differ"
    assert livecore.compare(tiny.path, __file__).answer == "could-not"
    assert livecore.compare(tiny.path, __file__).reason


def test_encrypted_dump_needs_its_key(dump, tmp_path):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    try:
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True, capture_output=True)
        subprocess.run(
            ["openssl", "rsa", "-in", private, "-pubout", "-out", public],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    out = tmp_path / "secret.zst"
    run("convert", "--encrypt", public, dump.path, out)
    with pytest.raises(livecore.EncryptedError):
        livecore.open(out)
    with pytest.raises(livecore.EncryptedError):
        livecore.open(out, key=public)
    with livecore.open(out, key=private) as plain:
        at = next(plain.pages()).address
        assert plain.read_phys(at, 4096) == dump.read_phys(at, 4096)
        assert plain.info()["encryption"]
        assert plain.verify().verdict == "sound"
        assert plain.compare(dump).answer == "same"


def test_interrupt_cancels_long_work(tiny, tmp_path):
    """SIGINT raises KeyboardInterrupt, and each file that exists is complete."""
    code = (
        "import itertools, livecore, signal, sys\n"
        # A shell may have started the tests with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "dump = livecore.open(sys.argv[1])\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    for n in itertools.count():\n"
        "        dump.convert(f'{sys.argv[2]}/{n}', codec='zstd', level=19)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tiny.path, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == "interrupted\n"
    assert process.returncode == 0
    for path in tmp_path.iterdir():
        assert livecore.verify(path).verdict == "sound"
