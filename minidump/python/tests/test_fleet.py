"""livecore.fleet: rows, retries, shards, Parquet, and a Ray cluster that loses a worker.

tests/fleet installs Ray and the others that the tests need. Without them, tests are skipped.
"""

import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

fleet = pytest.importorskip("livecore.fleet")

VERIFY = {"reports": [{"verdict": "sound", "facts": {"architecture": "amd64", "size": 7, "pages": 3}, "findings": []}]}
TRIAGE = {
    "kind": "minidump",
    "hostname": "a.example.org",
    "panic": "page fault",
    "dumped": "2026-11-30T04:00:00Z",
    "signature": {"id": "1:aa", "basis": "message-and-frames"},
}


def script(path, before="", verify=VERIFY, triage=TRIAGE):
    """A program in place of livecore, which runs `before` first."""
    text = f"""\
        #!{sys.executable}
        import json, os, signal, sys, time
        verb, dump = sys.argv[1], sys.argv[-1]
        {before}
        print(json.dumps({verify!r} if verb == "verify" else {triage!r}))
        """
    path.write_text(textwrap.dedent(text))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_each_dump_has_one_row_in_order(tmp_path):
    work = fleet.Work(script(tmp_path / "livecore"))
    names = [f"vmcore.{n}" for n in range(20)]
    rows = fleet.run(names + names[:5], work, jobs=3)
    assert [row.dump for row in rows] == names
    assert {row.verdict for row in rows} == {"sound"}
    assert {(row.signature, row.tries, row.error) for row in rows} == {("1:aa", 2, None)}
    (group,) = fleet.groups(rows)
    assert (group["count"], group["first"], group["example"]) == (20, "2026-11-30T04:00:00Z", "vmcore.0")


def test_failures_are_repeated_and_signals_are_named(tmp_path):
    counts = tmp_path / "counts"
    before = (
        f"open({str(counts)!r}, 'a').write(verb + '\\n'); "
        f"n = open({str(counts)!r}).read().count(verb); "
        "n < 3 and (print('no answer', file=sys.stderr), os.kill(os.getpid(), 9) if n == 2 else sys.exit(1))"
    )
    row = fleet.examine("vmcore.0", fleet.Work(script(tmp_path / "livecore", before)))
    assert (row.verdict, row.tries, row.error) == ("sound", 6, None)
    broken = script(tmp_path / "broken", "print('it is broken', file=sys.stderr); sys.exit(2)")
    row = fleet.examine("vmcore.0", fleet.Work(broken, retries=5))
    assert (row.verdict, row.verify_exit, row.triage_exit, row.tries) == ("broken", 2, 2, 2)
    assert row.error == "it is broken"
    ended = script(tmp_path / "ended", "os.kill(os.getpid(), signal.SIGTERM)")
    row = fleet.examine("vmcore.0", fleet.Work(ended, retries=5))
    assert (row.verdict, row.verify_exit, row.tries) == ("failed", -signal.SIGTERM, 1)
    row = fleet.examine("vmcore.0", fleet.Work(str(tmp_path / "absent"), retries=0))
    assert (row.verdict, row.verify_exit) == ("failed", None)
    assert "absent" in row.error
    slow = script(tmp_path / "slow", "time.sleep(600)")
    row = fleet.examine("vmcore.0", fleet.Work(slow, retries=0, timeout=0.5))
    assert row.error == "no result after 0.5 s"


@pytest.mark.parametrize(
    "before",
    [
        "sys.exit(print('{'))",
        "sys.exit(print('[' * 100000))",
        "sys.exit(print(json.dumps(['reports'])))",
        "sys.exit(print(json.dumps({'reports': []})))",
        "sys.exit(print(json.dumps({'reports': [{'findings': [{}]}]})))",
        "sys.exit(print('x' * (17 << 20)))",
        "sys.stdout.buffer.write(bytes(range(256))), sys.exit(1)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.abort()",
    ],
)
def test_a_program_that_fails_in_any_way_is_a_row(tmp_path, before):
    work = fleet.Work(script(tmp_path / "livecore", f"if dump == 'bad': {before}"), retries=0)
    rows = fleet.run(["vmcore.0", "bad", "vmcore.1"], work)
    assert [(row.dump, row.verdict != "sound", row.error is not None) for row in rows] == [
        ("vmcore.0", False, False),
        ("bad", True, True),
        ("vmcore.1", False, False),
    ]
    assert fleet.exit_code(rows) == 1


def test_the_error_of_a_broken_dump_is_its_first_error(tmp_path):
    finding = {"severity": "warning", "rule": "A-B", "region": "page 1", "found": "1", "expected": "2"}
    others = [{"severity": "error", "rule": "C-D"}, {"severity": "note", "rule": "E-F"}]
    findings = [finding, *({**finding, **other} for other in others)]
    report = {"reports": [{"verdict": "broken", "facts": {}, "findings": findings}]}
    before = f"verb == 'verify' and sys.exit(print(json.dumps({report!r})) or 2)"
    row = fleet.examine("vmcore.0", fleet.Work(script(tmp_path / "livecore", before)))
    assert (row.verdict, row.rules, row.error) == ("broken", ["A-B", "C-D"], "C-D: page 1: found 1, expected 2")
    # `triage` still runs.
    assert (row.triage_exit, row.signature, row.hostname) == (0, "1:aa", "a.example.org")


def test_shards_are_all_dumps_once():
    names = [str(n) for n in range(103)]
    shards = [fleet.shard(names, f"{k}/10") for k in range(10)]
    assert sorted(sum(shards, []), key=int) == names
    # New dumps do not move others to another part.
    assert [fleet.shard(["new", *names], f"{k}/10")[-5:] for k in range(10)] == [part[-5:] for part in shards]
    for text in ["10/10", "-1/10", "1", "a/b"]:
        with pytest.raises(ValueError):
            fleet.shard(names, text)


def test_lines_of_json_are_merged(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    fake = script(tmp_path / "livecore")
    names = [f"/crash/vmcore.{n}" for n in range(9)]
    parts = []
    # The first shard runs twice, like a restarted Job.
    for shard in ["0/2", "0/2", "1/2"]:
        out = io.StringIO()
        arguments = ["--program", fake, "--json", "--shard", shard, *names]
        assert fleet.main(arguments, out) == 0
        assert all(json.loads(line)["verdict"] == "sound" for line in out.getvalue().splitlines())
        parts.append(tmp_path / f"part-{len(parts)}.jsonl")
        parts[-1].write_text(out.getvalue())
    merged = tmp_path / "all.parquet"
    assert fleet.main(["--merge", str(merged), *map(str, parts)]) == 0
    table = parquet.read_table(merged)
    assert table.column("dump").to_pylist() == names
    assert table.schema.names[0] == "dump" and table.num_rows == 9
    assert stat.S_IMODE(merged.stat().st_mode) == 0o600
    before = merged.read_bytes()
    assert fleet.main(["--merge", str(merged), str(parts[0])]) == 1
    assert merged.read_bytes() == before
    assert fleet.main(["--force", "--merge", str(merged), str(parts[2])]) == 0
    assert parquet.read_table(merged).num_rows < 9
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []
    parts[0].write_text("{}\n")
    assert fleet.main(["--merge", str(tmp_path / "other"), str(parts[0])]) == 1
    assert not (tmp_path / "other").exists()


def test_any_name_of_a_dump_is_a_row(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = [b"vmcore.\xff.1", "vmcore.\u00e9.2".encode(), b"vmcore.\x1b[31m.3", b"-vmcore.4", b"vmcore.a\rb.5"]
    (tmp_path / "list").write_bytes(b"\n".join(names) + b"\n")
    arguments = ["--program", script(tmp_path / "livecore"), "--files-from", str(tmp_path / "list")]
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    assert fleet.main([*arguments, "--parquet", str(tmp_path / "all.parquet")], out) == 0
    found = parquet.read_table(tmp_path / "all.parquet").column("dump").to_pylist()
    assert found == ["vmcore.\\xff.1", "vmcore.\u00e9.2", "vmcore.\x1b[31m.3", "-vmcore.4", "vmcore.a\rb.5"]
    out.flush()
    assert out.buffer.getvalue().isascii() and b"\x1b" not in out.buffer.getvalue()


def test_directories_are_searched(tmp_path):
    names = ["vmcore.0.zst", "vmcore.host.example.7", "info.0", "vmcore.last", "a/vmcore.1", "notes", "livecore.a.1"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    found = [os.path.relpath(path, tmp_path) for path in fleet.expand([str(tmp_path), str(tmp_path / names[0])])]
    assert found == ["vmcore.0.zst", "vmcore.host.example.7", "a/vmcore.1"]


def test_prefix_without_a_bucket_is_refused():
    pytest.importorskip("pyarrow")
    with pytest.raises(OSError):
        list(fleet.expand(["s3://"]))


@pytest.fixture
def cluster():
    """A Ray cluster of two workers with one CPU each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1, memory=2 << 30)
    ray.init(made.address, log_to_driver=False, logging_level="warning")
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_killed_worker_loses_no_dump_and_repeats_none(cluster, tmp_path):
    marker, log = tmp_path / "killed", tmp_path / "log"
    # The program for one dump kills its worker once.
    before = (
        f"open({str(log)!r}, 'a').write(verb + ' ' + dump + '\\n'); time.sleep(0.2); "
        f"dump == 'vmcore.7' and not os.path.exists({str(marker)!r}) and "
        f"(open({str(marker)!r}, 'w').close(), os.kill(os.getppid(), signal.SIGKILL), time.sleep(1))"
    )
    work = fleet.Work(script(tmp_path / "livecore", before), memory=64 << 20)
    names = [f"vmcore.{n}" for n in range(24)]
    seen = []
    rows = fleet.run(names, work, ray=cluster.address, progress=lambda row, n, of: seen.append(row.dump))
    assert marker.exists()
    assert [row.dump for row in rows] == names
    assert sorted(seen) == sorted(names)
    assert {row.verdict for row in rows} == {"sound"}
    assert len({row.worker for row in rows}) >= 2
    started = log.read_text().splitlines()
    # Ray restarted only the dump of the killed worker.
    assert started.count("verify vmcore.7") == 2
    assert all(started.count(f"verify {name}") == 1 for name in names if name != "vmcore.7")


def test_a_task_waits_for_a_node_with_its_memory(cluster, tmp_path, monkeypatch, capsys):
    has_node = fleet._has_node

    def examined(nodes, work):
        found = has_node(nodes, work)
        assert not found
        cluster.add_node(num_cpus=1, memory=8 << 30)
        return found

    monkeypatch.setattr(fleet, "_has_node", examined)
    monkeypatch.setattr(fleet, "_NODE_CHECK", 1.0)
    work = fleet.Work(script(tmp_path / "livecore"), memory=4 << 30)
    (row,) = fleet.run(["vmcore.0"], work, ray=cluster.address)
    assert row.verdict == "sound"
    assert "no node of the cluster has 1 CPU and 4096 MiB for a task; waiting for one" in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch):
    """A function that writes an object to the bucket `crash` of the S3 server LIVECORE_MOTO."""
    moto = os.environ.get("LIVECORE_MOTO")
    if not moto:
        pytest.skip("LIVECORE_MOTO is not set: run tests/fleet")
    import boto3

    server = subprocess.Popen([moto, "-H", "127.0.0.1", "-p", "0"], stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in server.stderr if "Running on" in line)
        threading.Thread(target=server.stderr.read, daemon=True).start()
        url = line.split("Running on ")[1].strip()
        settings = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket="crash")
        yield lambda key, data: client.put_object(Bucket="crash", Key=key, Body=data)
    finally:
        server.kill()
        server.wait()


def test_dumps_in_a_store_become_rows_of_a_parquet_file(bucket, cluster, tmp_path):
    """With the program LIVECORE_STORE, which has the feature `store`. A worker is killed in the middle."""
    livecore = os.environ.get("LIVECORE_STORE")
    if not livecore:
        pytest.skip("LIVECORE_STORE is not set: run tests/fleet")
    from pyarrow import parquet

    machine = tmp_path / "machine.toml"
    machine.write_text('seed = 1\n[memory]\nsize = "16 MiB"\n[state]\npanic = "page fault"\n')
    local = tmp_path / "vmcore.zst"
    subprocess.run([livecore, "-q", "take", "--machine", machine, "-o", local], check=True)
    sound = [f"s3://crash/host{n % 2}/vmcore.{n}.zst" for n in range(12)]
    for url in sound:
        subprocess.run([livecore, "-q", "convert", local, url], check=True)
    others = {
        "host0/vmcore.90.zst": (local.read_bytes()[:-100000], "broken"),
        "host0/vmcore.91": (b"FreeBSD Kernel Dump\n" * 1000, "not-a-dump"),
        "host1/vmcore.92.zst": (b"\x28\xb5\x2f\xfd" + b"\xff" * 5000, "broken"),
        "host1/notes": (b"notes", None),
    }
    for key, (data, _) in others.items():
        bucket(key, data)
    # The cluster started its workers before the test set the environment.
    marker, wrapper = tmp_path / "killed", tmp_path / "livecore"
    settings = "".join(f"export {name}='{value}'\n" for name, value in os.environ.items() if name.startswith("AWS_"))
    wrapper.write_text(
        f"#!/bin/sh\n{settings}case \"$*\" in triage*vmcore.5.zst)\n"
        f"  if mkdir {marker} 2>/dev/null; then kill -9 $PPID; fi\nesac\nexec {livecore} \"$@\"\n"
    )
    wrapper.chmod(0o755)
    out = tmp_path / "crashes.parquet"
    # As users run it: the functions of the main module are not in a module of the workers.
    command = [sys.executable, "-m", "livecore.fleet", "--ray", cluster.address, "--program", str(wrapper)]
    done = subprocess.run(
        [*command, "--memory", "128", "--parquet", out, "s3://crash/"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert marker.is_dir()
    rows = parquet.read_table(out).to_pylist()
    wanted = {url: "sound" for url in sound}
    wanted.update((f"s3://crash/{key}", verdict) for key, (_, verdict) in others.items() if verdict)
    assert [row["dump"] for row in rows] == sorted(wanted)
    assert {row["dump"]: row["verdict"] for row in rows} == wanted
    for row in rows:
        assert (row["error"] is None) == (row["verdict"] == "sound"), row
    facts = {(row["panic"], row["architecture"], row["signature"][:2]) for row in rows if row["verdict"] == "sound"}
    assert facts == {("page fault", "amd64", "1:")}
    # Standard output has no messages from Ray.
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["12", "1"], done.stdout


PAGE = Path(__file__).resolve().parents[3] / "docs" / "fleet.md"


@pytest.fixture
def parts(tmp_path):
    """Forty dumps, and a function that runs a script of the page with them and returns the names of the rows."""
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "livecore", "dump.endswith('.7') and sys.exit(2)")
    (tmp_path / "bin" / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    (tmp_path / "crash").mkdir()
    dumps = [str(tmp_path / "crash" / f"vmcore.{n}") for n in range(40)]
    for dump in dumps:
        Path(dump).write_text("")
    path = f"{tmp_path}/bin:{os.environ['PATH']}"

    def run(text, **environment):
        text = text.replace("s3://crash/", str(tmp_path / "crash")).replace("/results/", f"{tmp_path}/")
        environment = {**os.environ, **environment, "PATH": path}
        environment.pop("LIVECORE", None)
        subprocess.run(["/bin/sh", "-c", text], cwd=tmp_path, env=environment, check=True)
        rows = fleet.read_json(tmp_path.glob("part-*.jsonl"))
        assert {row.verdict for row in rows} <= {"sound", "broken"}
        assert not list(tmp_path.glob("*.tmp"))
        return sorted(row.dump for row in rows)

    return run, sorted(dumps)


def block(heading):
    """The first block of a section of docs/fleet.md."""
    section = PAGE.read_text().split(f"### {heading}\n")[1]
    return section.split("```")[1].split("\n", 1)[1]


def test_parts_run_with_gnu_parallel(parts, tmp_path):
    if not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed")
    pytest.importorskip("pyarrow")
    run, dumps = parts
    # A broken dump is a failed job for GNU parallel, whose exit code is not that of the script.
    assert run(block("GNU parallel") + "[ $? -eq 2 ]") == dumps
    assert (tmp_path / "crashes.parquet").exists()


def test_parts_run_as_a_slurm_array(parts):
    run, dumps = parts
    body = block("Slurm")
    first, last = re.search(r"--array=(\d+)-(\d+)$", body, re.MULTILINE).groups()
    for task in range(int(first), int(last) + 1):
        found = run(body, SLURM_ARRAY_TASK_ID=str(task))
    assert found == dumps


def test_parts_run_as_a_kubernetes_job(parts):
    yaml = pytest.importorskip("yaml")
    validate = pytest.importorskip("kubernetes_validate").validate
    run, dumps = parts
    job = yaml.safe_load(block("Kubernetes"))
    validate(job, "1.31", strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "-c"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
    for index in range(job["spec"]["completions"]):
        found = run(*container["args"], JOB_COMPLETION_INDEX=str(index))
    assert found == dumps
