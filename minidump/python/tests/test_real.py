"""A dump that a FreeBSD 14 kernel wrote, from LLVM's tests. The expected values are LLDB's."""

import lzma
import os
from pathlib import Path

import pytest

import livecore
from conftest import document

REGISTERS = {
    "rip": 0xFFFFFFFF80C09ADE,
    "rsp": 0xFFFFFE00798C4748,
    "rbp": 0xFFFFFE00798C4760,
    "rbx": 0,
    "r12": 0xFFFFFE0045B11C00,
    "r15": 0xFFFFF80003369380,
}
RETURNS = [
    0xFFFFFFFF80C09916,
    0xFFFFFFFF80C09D90,
    0xFFFFFFFF80C09B93,
    0xFFFFFFFF80C57D91,
    0xFFFFFFFF80C19E71,
]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A function that unpacks a file of the directory of real dumps."""
    given = os.environ.get("LIVECORE_REAL_DUMPS")
    if not given:
        pytest.skip("LIVECORE_REAL_DUMPS is not set: no real dumps")
    directory = tmp_path_factory.mktemp("real")

    def unpack(name):
        path = directory / name
        if not path.exists():
            path.write_bytes(lzma.decompress((Path(given) / f"{name}.xz").read_bytes()))
        return path

    return unpack


def test_threads_of_a_real_minidump(real):
    path, kernel = real("vmcore-amd64-minidump"), real("kernel-amd64")
    # The dump was truncated: its last pages are zeros.
    with livecore.open(path, kernel=kernel, zero_tail=True) as dump:
        assert dump.read(dump.symbols["hz"], 4) == (100).to_bytes(4, "little")
        threads = dump.threads()
        assert len(threads) == 16 and threads[0].title == "(pid 800) sysctl (crashed)"
        registers = threads[0].registers
        assert {name: registers[name] for name in REGISTERS} == REGISTERS
        frames = [frame.pc for frame in dump.backtrace(threads[0])]
        assert frames[: 1 + len(RETURNS)] == [REGISTERS["rip"], *RETURNS]
    with livecore.open(path, kernel=kernel) as dump:
        assert dump.warnings and dump.info()["warning_ids"] == ["pages-missing"]


def test_threads_of_a_real_full_dump(real):
    path, kernel = real("vmcore-amd64-full"), real("kernel-amd64")
    with livecore.open(path, kernel=kernel) as dump:
        threads = dump.threads()
        assert dump.kind == "full" and len(threads) == 13
        assert threads[0].title == "(pid 806) sysctl (crashed)"
        assert threads[0].registers["rsp"] == 0xFFFFFE0085CB2748
        expected = document("threads", path, "--kernel", kernel)["threads"]
        assert [thread.tid for thread in threads] == [thread["tid"] for thread in expected]


def test_drgn_reads_a_real_dump(real):
    pytest.importorskip("drgn", reason="drgn is not installed")
    from livecore import drgn as livecore_drgn

    for name in ("vmcore-amd64-minidump", "vmcore-amd64-full"):
        prog = livecore_drgn.program(real(name), real("kernel-amd64"))
        assert prog.read_u32(prog.symbol("hz").address) == 100
