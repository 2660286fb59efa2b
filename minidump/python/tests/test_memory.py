"""Memory, symbols and pages."""

import faulthandler
import os
import struct
import threading

import numpy
import pytest

import livecore
from conftest import run


def test_memory_is_that_of_the_program(tiny, dump):
    at = dump.symbols["version"]
    text = run("read", tiny.path, "version", "64", "--raw", "--kernel", tiny.kernel)
    assert dump.read(at, 64).decode("latin-1") == text
    assert struct.unpack("<i", dump.read(dump.symbols["hz"], 4)) == (1000,)


def test_virtual_and_physical_reads_agree(dump):
    at = dump.symbols["allproc"]
    assert dump.read_phys(dump.translate(at), 8) == dump.read(at, 8)


def test_symbols_are_a_mapping(dump):
    symbols = dump.symbols
    assert "allproc" in symbols and "no_such" not in symbols
    names = list(symbols)
    assert len(symbols) == len(names) and "allproc" in names
    assert symbols.get("no_such") is None and symbols.get("no_such", 1) == 1
    assert symbols.get("allproc") == symbols["allproc"]
    assert symbols.size("hz") == 4
    with pytest.raises(KeyError):
        symbols["no_such"]
    with pytest.raises(KeyError):
        symbols.size("no_such")
    assert symbols.lookup(symbols["panic"] + 3) == ("panic", 3)
    assert symbols.lookup(0) is None


def test_unmapped_address_and_hole_are_errors_with_their_address(dump):
    with pytest.raises(livecore.NotMappedError) as error:
        dump.read(0x1234, 8)
    assert error.value.address == 0x1234
    with pytest.raises(livecore.NotMappedError):
        dump.translate(0x1234)
    beyond = 1 << 51
    with pytest.raises(livecore.NotInDumpError) as error:
        dump.read_phys(beyond, 8)
    assert error.value.address == beyond
    assert isinstance(error.value, livecore.ReadError)


def test_read_of_more_than_the_dump_has_fails_without_the_memory_for_it(dump):
    at = dump.symbols["hz"]
    for n in (1 << 40, 1 << 62):
        with pytest.raises(livecore.ReadError):
            dump.read(at, n)
    with pytest.raises(OverflowError):
        dump.read(-1, 8)
    with pytest.raises(OverflowError):
        dump.read(1 << 64, 8)
    with pytest.raises(OverflowError):
        dump.read(at, -1)
    with pytest.raises(livecore.ReadError):
        dump.read((1 << 64) - 4, 8)
    assert dump.read(at, 0) == b""


@pytest.mark.parametrize("size", [1, 4096, 12345, 1 << 20])
def test_pages_are_all_of_the_dump_in_ascending_order(dump, size):
    end = total = 0
    for run_ in dump.pages(size):
        assert run_.address >= end and len(run_) % dump.page_size == 0
        assert len(run_) <= max(size, dump.page_size)
        end = run_.address + len(run_)
        total += len(run_)
    assert total == dump.page_count * dump.page_size


def test_pages_are_buffers_for_numpy(dump):
    run_ = next(dump.pages())
    words = numpy.frombuffer(run_.data, dtype="<u8")
    assert words.nbytes == len(run_)
    assert words[:4].tobytes() == dump.read_phys(run_.address, 32)


def test_threads_share_a_dump(dump):
    """Each thread reads all of the memory while the others read it, and gets the same."""
    pages = {run_.address: run_.data for run_ in dump.pages(4096)}
    wrong = []

    def work(step):
        for address, data in list(pages.items())[::step]:
            if dump.read_phys(address, 4096) != data:
                wrong.append(address)
        if [t.tid for t in dump.threads()] != tids:
            wrong.append("threads")

    tids = [t.tid for t in dump.threads()]
    threads = [threading.Thread(target=work, args=(step,)) for step in (1, 1, -1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_threads_that_share_an_iterator_get_each_page_once(dump):
    pages, found = dump.pages(4096), []
    threads = [
        threading.Thread(target=lambda: found.extend(run_.address for run_ in pages))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [run_.address for run_ in dump.pages(4096)]


def test_reading_releases_the_interpreters_lock(tiny, tmp_path):
    """A thread waits in Rust for the bytes that another writes in Python."""
    fifo, opened = tmp_path / "fifo", []
    os.mkfifo(fifo)
    # If open kept the lock, both would wait for ever.
    faulthandler.dump_traceback_later(60, exit=True)
    reader = threading.Thread(target=lambda: opened.append(livecore.open(fifo)))
    reader.start()
    with open(fifo, "wb") as writer:
        writer.write(tiny.path.read_bytes())
    reader.join()
    faulthandler.cancel_dump_traceback_later()
    assert opened[0].page_count > 0


def test_closed_dump_refuses_every_use(tiny):
    dump = tiny.open()
    thread, process = dump.threads()[0], dump.processes()[0]
    pages, symbols = dump.pages(), dump.symbols
    dump.close()
    dump.close()
    assert dump.closed and "closed" in repr(dump)
    uses = [
        lambda: dump.read(0, 1),
        lambda: dump.read_phys(0, 1),
        lambda: dump.translate(0),
        lambda: dump.pages(),
        lambda: dump.threads(),
        lambda: dump.processes(),
        lambda: dump.backtrace(thread),
        lambda: dump.backtrace(1),
        lambda: dump.dmesg(),
        lambda: dump.modules(),
        lambda: dump.symbols,
        lambda: dump.info(),
        lambda: dump.verify(),
        lambda: dump.convert("out"),
        lambda: dump.compare("other"),
        lambda: dump.kind,
        lambda: dump.kernel,
        lambda: dump.architecture,
        lambda: dump.byte_order,
        lambda: dump.page_size,
        lambda: dump.pointer_size,
        lambda: dump.debug_file,
        lambda: dump.kernel_range,
        lambda: dump.page_count,
        lambda: dump.warnings,
        lambda: dump.__enter__(),
        lambda: next(pages),
        lambda: symbols["hz"],
        lambda: symbols.lookup(0),
        lambda: list(symbols),
        lambda: thread.registers,
        lambda: thread.backtrace(),
    ]
    for use in uses:
        with pytest.raises(livecore.ClosedError):
            use()
    # What was read before is still there.
    assert thread.title and process.threads and dump.path


def test_close_during_reads_is_safe(tiny):
    """A dump that is closed while other threads read it: each call succeeds or says so."""
    for _ in range(20):
        dump = tiny.open()
        at, other = dump.symbols["hz"], []

        def work():
            try:
                while True:
                    assert dump.read(at, 4) == b"\xe8\x03\0\0"
            except livecore.ClosedError:
                pass
            except BaseException as error:
                other.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        dump.close()
        for thread in threads:
            thread.join()
        assert not other
