"""Calls every method of every dump that is named on the command line.

Each call returns or raises an ordinary exception of livecore; anything else ends this program.
"""

import itertools
import pathlib
import resource
import sys
import tempfile
import warnings

import livecore

# A dump must not make livecore allocate what it claims to have; Rust aborts if an allocation fails.
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
warnings.simplefilter("ignore", livecore.DumpWarning)


def attempt(count, use, *args, **kwargs):
    try:
        result = use(*args, **kwargs)
        count["returned"] += 1
        return result
    except livecore.PanicError:
        raise
    except (livecore.Error, OSError) as error:
        assert str(error)
        count["raised"] += 1


def exercise(path, kernel, directory, count):
    report = livecore.verify(path)
    for finding in report.findings:
        assert str(finding) and finding.region and finding.claim
    attempt(count, livecore.compare, path, path)
    dump = attempt(count, livecore.open, path)
    if dump is None:
        return
    with dump:
        pages = dump.pages()
        address = 0
        for _ in range(8):
            run = attempt(count, next, pages, None)
            address = run.address if run else address
        # A bit pattern of each kind of address: low, direct map, kernel image, the ends.
        for at in (0, address, 0xFFFF_F800_0000_0000, 0xFFFF_FFFF_8020_0000, (1 << 64) - 1):
            for use in (dump.read, dump.read_phys):
                attempt(count, use, at, 4096)
            attempt(count, dump.translate, at)
        for use in (dump.info, dump.dmesg, dump.processes, dump.threads, dump.modules):
            attempt(count, use)
        attempt(count, dump.verify, depth="deep")
        attempt(count, lambda: dump.symbols)
        attempt(count, dump.backtrace, 1)
        attempt(count, dump.compare, path)
        assert dump.kind and dump.architecture and dump.page_size and repr(dump)
        for to in (None, "minidump", "full", "elf"):
            out = pathlib.Path(directory) / "out"
            attempt(count, dump.convert, out, to, codec="zstd", force=True)
    if kernel is None:
        return
    dump = attempt(count, livecore.open, path, kernel=kernel)
    if dump is None:
        return
    for thread in itertools.islice(attempt(count, dump.threads) or [], 64):
        attempt(count, lambda thread=thread: thread.registers)
        for frame in attempt(count, dump.backtrace, thread) or []:
            assert str(frame)
    attempt(count, dump.modules)
    attempt(count, dump.dmesg)
    attempt(count, dump.convert, pathlib.Path(directory) / "out", "elf", force=True)


def main(kernel, *paths):
    count = {"returned": 0, "raised": 0}
    with tempfile.TemporaryDirectory() as directory:
        for path in paths:
            print(path, flush=True)
            exercise(path, None if kernel == "-" else kernel, directory, count)
    print(f"{count['returned']} calls returned, {count['raised']} raised")


main(*sys.argv[1:])
