"""The speed of reads in Python, compared with the library's own.

    python3 reads.py DUMP BENCH [ROUNDS]

DUMP is a minidump with a direct map, and BENCH the program that `cargo bench -p livecore-python --bench
reads --no-run` builds. The largest run of pages in the dump is read in pieces of 1 MiB. Each round opens
the dump again, and runs both in turn; the medians are printed.
"""

import statistics
import subprocess
import sys
import time

import livecore

PIECE, SMALL = 1 << 20, 200_000


def largest(path):
    """The virtual address and the length of the largest run, in whole pieces."""
    with livecore.open(path) as dump:
        base = int(dump.info()["minidump"]["dmapbase"], 16)
        runs = []
        for run in dump.pages(PIECE):
            if runs and sum(runs[-1]) == run.address:
                runs[-1][1] += len(run)
            else:
                runs.append([run.address, len(run)])
    address, length = max(runs, key=lambda run: run[1])
    return base + address, length // PIECE * PIECE


def measure(path, address, length):
    with livecore.open(path) as dump:
        read = dump.read
        start = time.perf_counter()
        for at in range(address, address + length, PIECE):
            read(at, PIECE)
        rate = length / (time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(SMALL):
            read(address, 8)
        return rate, (time.perf_counter() - start) / SMALL


def main(path, bench, rounds="9"):
    address, length = largest(path)
    assert length, "no run of 1 MiB"
    of_python, of_library = [], []
    for _ in range(int(rounds)):
        of_python.append(measure(path, address, length))
        out = subprocess.run([bench, path, str(address), str(length)], stdout=-1, check=True).stdout
        of_library.append(tuple(map(float, out.split())))
    medians = [[statistics.median(of) for of in zip(*all)] for all in (of_python, of_library)]
    (rate, small), (library_rate, library_small) = medians
    print(f"{length >> 20} pieces of 1 MiB at {address:#x}")
    print(f"1 MiB:   Python {rate / 1e6:.0f} MB/s, library {library_rate / 1e6:.0f} MB/s,", end=" ")
    print(f"ratio {rate / library_rate:.2f}")
    print(f"8 bytes: Python {small * 1e6:.2f} us, library {library_small * 1e6:.2f} us a read")


main(*sys.argv[1:])
