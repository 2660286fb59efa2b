"""Verifies, triages and groups many dumps, on this machine or on a Ray cluster.

    python3 -m livecore.fleet --ray auto --parquet crashes.parquet s3://crash/
    python3 -m livecore.fleet --json --shard 3/100 --files-from dumps.txt >part-3.jsonl
    python3 -m livecore.fleet --merge crashes.parquet part-*.jsonl

Each dump is one task. The task runs the program livecore (--program, or livecore in PATH) twice: `verify --json`
and `triage --json`. The Python process does not read the dump, and a crash of the program affects only one dump.
The result has one row for each dump. docs/fleet.md describes the columns.

--ray needs the package ray; --parquet, --merge and prefixes of object stores need pyarrow.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, TextIO, Tuple

#: The file names that `livecore verify DIR` selects. Only names from netdumpd(8) contain a host name.
_NAME = re.compile(r"((vmcore|vmcore_encrypted)(\..+)?|livecore|textdump\.tar)\.[0-9]+(\.gz|\.zst)?", re.DOTALL)

#: After this many seconds without a result, the run checks the nodes of the cluster.
_NODE_CHECK = 30.0

#: The exit codes of `verify`, from worst to best.
_EXIT_CODES = {"failed": 1, "broken": 2, "not-a-dump": 63, "warnings": 3, "sound": 0}


@dataclass
class Row:
    """The result for one dump; the columns of the Parquet file."""

    dump: str
    #: The verdict of `verify`: sound, warnings, broken, not-a-dump or failed.
    verdict: str = "failed"
    #: Exit codes of `verify` and `triage`; -N for signal N; None if the program did not run or exceeded the time limit.
    verify_exit: Optional[int] = None
    triage_exit: Optional[int] = None
    #: Ids of the rules with findings other than notes.
    rules: List[str] = field(default_factory=list)
    architecture: Optional[str] = None
    kind: Optional[str] = None
    hostname: Optional[str] = None
    version: Optional[str] = None
    panic: Optional[str] = None
    #: The time in the dump: RFC 3339, UTC.
    dumped: Optional[str] = None
    #: The id of the crash signature and its input (docs/signatures.md).
    signature: Optional[str] = None
    signature_basis: Optional[str] = None
    size: Optional[int] = None
    pages: Optional[int] = None
    #: The reason, if the dump is broken, could not be read, or has no triage.
    error: Optional[str] = None
    #: Number of program starts for this dump, without those of a killed worker.
    tries: int = 0
    seconds: float = 0.0
    worker: str = ""


@dataclass(frozen=True)
class Work:
    """How to examine a dump."""

    program: str = "livecore"
    #: Kernel files and directories.
    kernel_path: Tuple[str, ...] = ()
    #: Memory of one task, in bytes.
    memory: int = 256 << 20
    #: Maximum number of retries of a program.
    retries: int = 2
    #: Time limit for a program, in seconds.
    timeout: float = 3600.0
    #: Verify headers and seals only.
    quick: bool = False


def examine(dump: str, work: Work = Work()) -> Row:
    """Verifies and triages one dump. If a program fails, the row contains the error."""
    row = Row(_text(dump), worker=f"{socket.gethostname()}:{os.getpid()}")
    began = time.monotonic()
    try:
        _examine(dump, work, row)
    except (AttributeError, LookupError, TypeError, RecursionError) as error:
        # The program is another version of livecore, or not livecore.
        row.verdict, row.error = "failed", f"{work.program}: unexpected output: {error!r}"[:500]
    row.seconds = round(time.monotonic() - began, 3)
    return row


def _examine(dump: str, work: Work, row: Row) -> None:
    # The other half of the memory is for data outside of the program's caches.
    common = ["--memory", f"{max(work.memory >> 21, 16)}M", "--quiet", "--json"]
    quick = ["--quick"] if work.quick else []
    row.verify_exit, document, error = _run(row, work, ["verify", "-j", "1", *quick, *common, "--", dump])
    report = document["reports"][0] if document else {}
    without_report = {2: "broken", 63: "not-a-dump"}.get(row.verify_exit or 0, "failed")
    row.verdict = report.get("verdict") or without_report
    facts = report.get("facts") or {}
    row.architecture, row.size, row.pages = facts.get("architecture"), facts.get("size"), facts.get("pages")
    findings = [finding for finding in report.get("findings", []) if finding["severity"] != "note"]
    row.rules = sorted({finding["rule"] for finding in findings})
    errors = [finding for finding in findings if finding["severity"] == "error"]
    if row.verdict not in ("sound", "warnings", "broken"):
        row.error = report.get("reason") or error
        return
    if errors:
        row.error = "{rule}: {region}: found {found}, expected {expected}".format(**errors[0])
    kernels = [word for path in work.kernel_path for word in ("--kernel-path", path)]
    triage = ["triage", "--lines", "1", *kernels, *common, "--", dump]
    row.triage_exit, document, error = _run(row, work, triage)
    row.error = row.error or error
    if document is None:
        return
    for name in ("kind", "hostname", "version", "panic", "dumped"):
        setattr(row, name, document.get(name))
    row.architecture = row.architecture or document.get("architecture")
    signature = document.get("signature") or {}
    row.signature, row.signature_basis = signature.get("id"), signature.get("basis")


def _run(row: Row, work: Work, arguments: List[str]) -> Tuple[Optional[int], Optional[Dict[str, Any]], Optional[str]]:
    """Runs the program, and repeats it up to `retries` times after an error that may be temporary.

    Returns the exit code, the JSON document, and the error if the program failed or printed no document.
    """
    for attempt in range(work.retries + 1):
        if attempt:
            time.sleep(min(0.5 * 2**attempt, 30.0))
        row.tries += 1
        code, document, error = _once(work, arguments)
        # I/O errors (1), timeouts and signals because of low memory may be temporary.
        if not (code is None or code == 1 or code < 0) or code in (-signal.SIGINT, -signal.SIGTERM):
            break
    return code, document, error


def _once(work: Work, arguments: List[str]) -> Tuple[Optional[int], Optional[Dict[str, Any]], Optional[str]]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        command = [work.program, *arguments]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=work.timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return None, None, f"no result after {work.timeout:g} s"
        except (OSError, ValueError) as error:
            return None, None, f"{work.program}: {error}"
        code = done.returncode
        err.seek(0)
        lines = err.read(4096).decode("utf-8", "replace").strip()
        # A parsed document needs several times the memory of its text.
        most = max(work.memory // 16, 1 << 20)
        if out.tell() > most:
            return code, None, f"{out.tell()} bytes of output, expected at most {most}"
        out.seek(0)
        text = out.read()
    why = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    failed = None if code in (0, 3) else lines or why
    try:
        document = json.loads(text)
    except ValueError:
        return code, None, failed or "no JSON on standard output"
    return code, document, failed


def _text(name: str) -> str:
    """Escapes bytes of a name that are not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _printable(text: str) -> str:
    """Escapes characters that can control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def expand(names: Iterable[str]) -> List[str]:
    """Replaces directories and prefixes of S3 buckets with the dumps below them, without duplicates.

    Raises OSError if a directory or a prefix cannot be listed.
    """
    found: Dict[str, None] = {}
    for name in names:
        if name.startswith("s3://") and (name.endswith("/") or name.count("/") < 3):
            found.update(dict.fromkeys(_objects(name)))
        elif os.path.isdir(name):
            for directory, folders, files in os.walk(name, onerror=_fail):
                folders.sort()
                paths = [os.path.join(directory, file) for file in sorted(files)]
                found.update(dict.fromkeys(path for path in paths if _is_dump(path)))
        else:
            found[name] = None
    return list(found)


def _is_dump(path: str) -> bool:
    return bool(_NAME.fullmatch(path.rsplit("/", 1)[-1]))


def _fail(error: OSError) -> None:
    raise error


def _objects(prefix: str) -> Iterator[str]:
    """Lists the dumps below a prefix. Credentials and endpoint come from the environment (docs/stores.md)."""
    from pyarrow import fs

    endpoint = next(
        filter(None, map(os.environ.get, ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))), None
    )
    options: Dict[str, Any] = {}
    if endpoint:
        options["scheme"], options["endpoint_override"] = endpoint.rstrip("/").split("://", 1)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    if os.environ.get("AWS_SKIP_SIGNATURE", "").lower() == "true":
        options["anonymous"] = True
    selector = fs.FileSelector(prefix[len("s3://") :].rstrip("/"), recursive=True)
    infos = fs.S3FileSystem(**options).get_file_info(selector)
    paths = sorted(info.path for info in infos if info.type == fs.FileType.File)
    return (f"s3://{path}" for path in paths if _is_dump(path))


#: Called with each new row, the number of rows so far and the total number.
Progress = Callable[[Row, int, int], None]


def run(
    dumps: Sequence[str],
    work: Work = Work(),
    *,
    ray: Optional[str] = None,
    jobs: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> List[Row]:
    """Verifies and triages dumps. `ray` is the address of a Ray cluster ("auto", "local" or HOST:PORT).

    Returns one row for each dump, in the order of `dumps`.
    """
    names = list(dict.fromkeys(dumps))
    done: Dict[str, Row] = {}
    rows = _on_threads(names, work, jobs) if ray is None else _on_ray(names, work, ray, jobs)
    for name, row in rows:
        done[name] = row
        if progress:
            progress(row, len(done), len(names))
    return [done[name] for name in names]


def _on_threads(names: Sequence[str], work: Work, jobs: Optional[int]) -> Iterator[Tuple[str, Row]]:
    """Runs the programs from a pool of threads."""
    threads = jobs or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    waiting = iter(names)
    running = {pool.submit(examine, name, work): name for name in islice(waiting, 2 * threads)}
    try:
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()
                running.update((pool.submit(examine, name, work), name) for name in islice(waiting, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _on_ray(names: Sequence[str], work: Work, address: str, jobs: Optional[int]) -> Iterator[Tuple[str, Row]]:
    """Submits a task for each dump, with one CPU and the memory of `work`. Ray restarts the tasks of a dead worker.

    Each finished row is in the memory of this process, so a dead node loses no finished rows.
    """
    import ray

    if not ray.is_initialized():
        ray.init(address, log_to_driver=False, logging_level="warning")
    task = ray.remote(num_cpus=1, memory=work.memory, max_retries=work.retries)(examine)
    waiting = iter(names)
    running: Dict[Any, str] = {}
    warned = False
    while True:
        # Waiting tasks need memory in the scheduler, and a cluster can grow: limit the number of submitted tasks.
        most = jobs or max(64, 4 * int(ray.cluster_resources().get("CPU", 1)))
        running.update((task.remote(name, work), name) for name in islice(waiting, max(most - len(running), 0)))
        if not running:
            return
        finished, _ = ray.wait(list(running), num_returns=1, timeout=_NODE_CHECK)
        if not finished and not warned and not _has_node(ray.nodes(), work):
            warned = True
            note = f"no node of the cluster has 1 CPU and {work.memory >> 20} MiB for a task; waiting for one"
            print(f"livecore.fleet: warning: {note}", file=sys.stderr)
        for reference in finished:
            name = running.pop(reference)
            try:
                row = ray.get(reference)
            except ray.exceptions.RayError as error:
                # Ray has no retries left: the dump still gets a row.
                why = str(error).strip().splitlines() or [type(error).__name__]
                row = Row(_text(name), error=why[0][:500])
            yield name, row


def _has_node(nodes: Iterable[Dict[str, Any]], work: Work) -> bool:
    """Whether a node has the resources of a task."""
    return any(
        node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["Resources"].get("memory", 0) >= work.memory
        for node in nodes
    )


def groups(rows: Iterable[Row]) -> List[Dict[str, Any]]:
    """Groups rows by crash signature, largest group first. The signature of dumps without one is None."""
    found: Dict[Optional[str], Dict[str, Any]] = {}
    for row in rows:
        if row.triage_exit not in (0, 3):
            continue
        new = {"signature": row.signature, "count": 0, "first": None, "last": None}
        group = found.setdefault(row.signature, {**new, "panic": row.panic, "example": row.dump})
        group["count"] += 1
        if row.dumped:
            group["first"] = min(filter(None, (group["first"], row.dumped)))
            group["last"] = max(filter(None, (group["last"], row.dumped)))
    return sorted(found.values(), key=lambda group: (-group["count"], group["signature"] or ""))


def write_parquet(rows: Sequence[Row], path: str, *, force: bool = False) -> None:
    """Writes the rows as a Parquet file with mode 0600. The file appears under its name only when complete.

    Raises FileExistsError if the file exists and `force` is false.
    """
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"rules": pa.list_(pa.string()), "seconds": pa.float64()}
    kinds.update(dict.fromkeys(("verify_exit", "triage_exit", "tries"), pa.int64()))
    kinds.update(dict.fromkeys(("size", "pages"), pa.uint64()))
    schema = pa.schema([(column.name, kinds.get(column.name, pa.string())) for column in fields(Row)])
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    target = Path(path)
    descriptor, temporary = tempfile.mkstemp(prefix="livecore.tmp.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as out:
            parquet.write_table(table, out)
            out.flush()
            os.fsync(out.fileno())
        if force:
            os.replace(temporary, target)
        else:
            os.link(temporary, target)
        directory = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_json(paths: Iterable[str]) -> List[Row]:
    """Reads rows from files that --json wrote. If a dump has several rows, returns the last one."""
    known = {column.name for column in fields(Row)}
    rows: Dict[str, Row] = {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = Row(**{k: v for k, v in json.loads(line).items() if k in known})
                except (ValueError, TypeError, AttributeError) as error:
                    raise ValueError(f"{path}: line {number}: not a row of livecore.fleet") from error
                rows[row.dump] = row
    return [rows[name] for name in sorted(rows)]


def shard(names: Iterable[str], text: str) -> List[str]:
    """Returns the names in part K of N: `text` is K/N, and the first part is 0.

    The part of a name does not depend on other names, so parts can be listed at different times.
    """
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise ValueError(f"shard {text}: expected K/N with K from 0 to N - 1")
    return [name for name in names if zlib.crc32(os.fsencode(name)) % int(count) == int(number)]


def exit_code(rows: Iterable[Row]) -> int:
    """Returns the worst exit code of all programs. From worst to best: 1, 2, 63, 3, 0."""
    order = list(_EXIT_CODES.values())
    worst = len(order) - 1
    for row in rows:
        codes: List[Optional[int]] = [_EXIT_CODES.get(row.verdict, 1)]
        if row.verdict in ("sound", "warnings"):
            # `triage` with exit code 0 and an error printed no document.
            codes.append(row.triage_exit if row.triage_exit or row.error is None else 1)
        for code in codes:
            worst = min(worst, order.index(code) if code in order else 0)
    return order[worst]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="livecore.fleet", description="Verify, triage and group many dumps")
    parser.add_argument("dumps", nargs="*", metavar="DUMP", help="dumps, directories, prefixes (s3://BUCKET/PREFIX/)")
    parser.add_argument("--files-from", metavar="LIST", help="read names from LIST, one per line (-: standard input)")
    parser.add_argument("--shard", metavar="K/N", help="process only part K of N; the first part is 0")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on a Ray cluster: auto, local or HOST:PORT")
    parser.add_argument("-j", "--jobs", type=_positive, metavar="N", help="maximum of concurrent dumps [one per processor]")
    parser.add_argument("--memory", type=_positive, default=256, metavar="MIB", help="memory for a task, in MiB [256]")
    parser.add_argument("--retries", type=_count, default=2, metavar="N", help="maximum number of retries [2]")
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="S", help="time limit for a program, in seconds [3600]")
    parser.add_argument("--quick", action="store_true", help="verify headers and seals, and decode no frames")
    parser.add_argument("--kernel-path", action="append", default=[], metavar="PATH", help="kernel file or directory")
    parser.add_argument("--program", default=os.environ.get("LIVECORE", "livecore"), help="the program [livecore]")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each result at once")
    parser.add_argument("--parquet", metavar="FILE", help="write all rows to FILE after the last dump")
    parser.add_argument("--merge", metavar="FILE", help="write the rows of files from --json to FILE as Parquet")
    parser.add_argument("--force", action="store_true", help="replace an existing file with --parquet or --merge")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) == 0:
        raise argparse.ArgumentTypeError("found 0, expected at least 1")
    return int(text)


def _names(args: argparse.Namespace) -> List[str]:
    """Returns the dumps that the command line names."""
    names = list(args.dumps)
    if args.files_from:
        source = 0 if args.files_from == "-" else args.files_from
        with open(source, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            names += filter(None, (line.rstrip("\n") for line in lines))
    found = expand(names)
    return shard(found, args.shard) if args.shard else found


def _main(args: argparse.Namespace, out: TextIO) -> int:
    if args.parquet or args.merge:
        # Report a missing package and an existing file before the work.
        import pyarrow.parquet  # noqa: F401

        if os.path.lexists(args.parquet or args.merge) and not args.force:
            raise FileExistsError(f"{args.parquet or args.merge}: file exists; use --force to replace it")
    if args.merge:
        rows = read_json(args.dumps)
        write_parquet(rows, args.merge, force=args.force)
        return exit_code(rows)
    work = Work(args.program, tuple(args.kernel_path), args.memory << 20, args.retries, args.timeout, args.quick)

    def show(row: Row, count: int, total: int) -> None:
        if args.json:
            print(json.dumps(asdict(row)), file=out, flush=True)
        print(f"livecore.fleet: {count}/{total} {_printable(row.dump)}: {row.verdict}", file=sys.stderr)

    rows = run(_names(args), work, ray=args.ray, jobs=args.jobs, progress=show)
    if args.parquet:
        write_parquet(rows, args.parquet, force=args.force)
    if not args.json:
        for group in groups(rows):
            print(f"{group['count']:>6}  {group['signature'] or '-':34}  {_printable(group['example'])}", file=out)
    counts = Counter(row.verdict for row in rows)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    print(f"livecore.fleet: {len(rows)} dumps: {verdicts or 'none'}", file=sys.stderr)
    return exit_code(rows)


def _output(args: argparse.Namespace) -> TextIO:
    """Returns standard output. With Ray, redirects its messages on standard output to standard error."""
    if not args.ray:
        return sys.stdout
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return own


def main(arguments: Optional[Sequence[str]] = None, out: Optional[TextIO] = None) -> int:
    """Runs the command line. Returns the exit code."""
    args = _arguments().parse_args(arguments)
    try:
        return _main(args, out or _output(args))
    except BrokenPipeError:
        # The interpreter must not write to standard output again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return 130
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"livecore.fleet: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
