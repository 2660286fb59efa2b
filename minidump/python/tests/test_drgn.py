"""drgn's view of a dump, and the helpers for FreeBSD's structures."""

import contextlib
import doctest
import io
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import livecore
from conftest import document, program as installed, run

drgn = pytest.importorskip("drgn", reason="drgn is not installed")

import livecore.drgn as livecore_drgn  # noqa: E402
from livecore.drgn import helpers  # noqa: E402


@pytest.fixture(scope="module")
def debug(machine):
    made = machine("debug")
    if "debug_info" not in subprocess.run(
        ["readelf", "-SW", made.kernel], capture_output=True, text=True
    ).stdout:
        pytest.skip("no C compiler made a kernel with debug information")
    return made


@pytest.fixture(scope="module")
def prog(debug):
    return livecore_drgn.program(debug.path, debug.kernel)


def test_program_has_memory_types_symbols_and_source_lines(debug, prog):
    assert prog["hz"].value_() == 1000
    assert prog["version"].string_().decode().startswith("FreeBSD 14.0-RELEASE")
    assert prog.type("struct proc").has_member("p_pid")
    symbol = prog.symbol("panic")
    with debug.open() as dump:
        assert symbol.address == dump.symbols["panic"]
        at = dump.symbols["hz"]
        assert prog.read(dump.translate(at), 4, True) == prog.read(at, 4) == dump.read(at, 4)
    line = prog.source_location(symbol.address)[0]
    assert line.filename.endswith("functions.h") and line.line > 0


def test_kernel_has_its_build_id(debug, prog):
    notes = subprocess.run(["readelf", "-nW", debug.kernel], capture_output=True, text=True).stdout
    expected = re.search(r"Build ID: ([0-9a-f]{40})", notes).group(1)
    (kernel,) = [module for module in prog.modules() if module.name == "kernel"]
    assert kernel.build_id.hex() == expected
    # A dump is compared with a kernel file by its build-id.
    changed = debug.kernel.read_bytes().replace(kernel.build_id, bytes(20))
    other = debug.directory / "other"
    other.write_bytes(changed)
    with pytest.raises(livecore.KernelError) as error:
        livecore.open(debug.path, kernel=other)
    assert error.value.region == "build-id" and error.value.expected.startswith(expected)


def test_kernel_that_is_not_found_can_be_named(debug, tmp_path):
    path = tmp_path / "vmcore.0"
    path.write_bytes(debug.path.read_bytes())
    with pytest.raises(livecore.KernelError) as error:
        livecore_drgn.program(path)
    assert "/usr/lib/debug" in str(error.value) and "kernel=" in str(error.value)
    assert livecore_drgn.program(path, debug.kernel)["hz"].value_() == 1000


def test_memory_that_is_not_there_is_a_fault(prog):
    with pytest.raises(drgn.FaultError) as error:
        prog.read(0x1234, 8)
    assert error.value.address == 0x1234
    with pytest.raises(drgn.FaultError):
        prog.read(1 << 50, 8, True)


def test_threads_and_processes_are_those_of_the_program(debug, prog):
    threads = document("threads", debug.path, "--kernel", debug.kernel)["threads"]
    found = list(helpers.for_each_thread(prog))
    assert len(found) == len(threads) > 20
    for thread, wanted in zip(found, threads):
        assert thread.value_() == int(wanted["address"], 16)
        assert thread.td_tid.value_() == wanted["tid"]
        assert thread.td_proc.value_() == int(wanted["process"], 16)
    processes = document("ps", debug.path, "--kernel", debug.kernel)["processes"]
    assert [(p.p_pid.value_(), p.p_comm.string_().decode()) for p in helpers.for_each_proc(prog)] == [
        (p["pid"], p["command"]) for p in processes
    ]
    assert helpers.find_proc(prog, 1).p_comm.string_() == b"init"
    assert helpers.find_proc(prog, 99999) is None
    tid = threads[5]["tid"]
    assert helpers.find_thread(prog, tid).value_() == int(threads[5]["address"], 16)
    assert helpers.find_thread(prog, 1) is None


def test_stack_traces_have_the_frames_of_the_program(debug, prog):
    threads = document("threads", debug.path, "--kernel", debug.kernel)["threads"]
    own = 0
    for thread, wanted in zip(helpers.for_each_thread(prog), threads):
        counters = [int(frame["pc"], 16) for frame in wanted["frames"]]
        if not counters:
            with pytest.raises(ValueError):
                helpers.stack_trace(thread)
            continue
        trace = helpers.stack_trace(thread)
        assert [frame.pc for frame in trace][: len(counters)] == counters
        names = [frame["function"] for frame in wanted["frames"]]
        assert [frame.name for frame in trace][: len(names)] == names
        # A trace of drgn's own has registers.
        own += "rbp" in trace[0].registers()
    assert own > len(threads) / 2
    with pytest.raises(LookupError):
        helpers.stack_trace(1, prog)
    with pytest.raises(TypeError):
        helpers.stack_trace(1)


def test_message_buffer_and_kernel_files(debug, prog):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        helpers.print_msgbuf(prog)
    assert out.getvalue() == run("dmesg", debug.path, "--kernel", debug.kernel)
    files = [file.filename.string_().decode() for file in helpers.linker_files(prog)]
    with debug.open() as dump:
        assert files == [module.name for module in dump.modules()]


def test_functions_of_modules_have_their_names(debug, prog):
    with debug.open() as dump:
        for module in dump.modules()[1:]:
            name, offset = dump.symbols.lookup(module.address + 16)
            found = prog.symbol(module.address + 16)
            assert (found.name, found.address) == (name, module.address + 16 - offset)
        assert prog.symbol("hz").address == dump.symbols["hz"]
    with pytest.raises(LookupError):
        prog.symbol("no_such_symbol")


def test_vm_page_of_every_page_has_its_address(debug, prog):
    found = 0
    with debug.open() as dump:
        for pages in dump.pages(dump.page_size):
            page = helpers.vm_page(prog, pages.address + 123)
            if page is not None:
                assert page.phys_addr == pages.address
                assert page.type_.type_name() == "struct vm_page *"
                found += 1
    assert found > 100
    assert helpers.vm_page(prog, 1 << 50) is None


def test_program_of_another_origin_has_no_dump():
    with pytest.raises(ValueError):
        helpers.print_msgbuf(drgn.Program())


def test_tutorial_of_drgn_runs(debug, tmp_path, monkeypatch):
    shutil.copy(debug.path, tmp_path / "vmcore.0.zst")
    shutil.copy(debug.kernel, tmp_path / "kernel")
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(livecore_drgn, extraglobs={"livecore": livecore})
    assert result.attempted > 5 and result.failed == 0


@pytest.mark.parametrize("name", ["arm64", "i386", "riscv64"])
def test_kernel_without_debug_information_has_memory_and_symbols(machine, name):
    made = machine(name)
    prog = livecore_drgn.program(made.path, made.kernel)
    with made.open() as dump:
        at = dump.symbols["hz"]
        assert prog.symbol("hz").address == at
        assert prog.read_u32(at) == 1000


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    """A program whose memory is a compiled C file."""
    path = tmp_path_factory.mktemp("structures") / "structures"
    source = Path(__file__).with_name("structures.c")
    flags = ["-g", "-nostdlib", "-static", "-no-pie", "-ffreestanding"]
    try:
        subprocess.run(["cc", *flags, "-o", path, source], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler is installed")
    data = path.read_bytes()
    prog = drgn.Program(drgn.host_platform)
    lowest = 1 << 64
    start, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, _, offset, va, _, stored, memory = struct.unpack_from(
            "<IIQQQQQ", data, start + size * number
        )
        if kind == 1:  # PT_LOAD
            contents = data[offset : offset + stored].ljust(memory, b"\0")
            read = lambda at, n, skip, _, contents=contents: contents[skip : skip + n]  # noqa: E731
            prog.add_memory_segment(va, memory, read)
            lowest = min(lowest, va)
    module = prog.extra_module("structures", create=True)
    module.address_range = (lowest, 1 << 47)
    module.try_file(path, force=True)
    return prog


@pytest.mark.parametrize(
    "head, each",
    [
        ("list", helpers.list_for_each),
        ("slist", helpers.slist_for_each),
        ("stailq", helpers.stailq_for_each),
        ("tailq", helpers.tailq_for_each),
    ],
)
def test_lists_are_iterated_in_their_order(structures, head, each):
    assert [entry.number.value_() for entry in each(structures[head], head)] == [1, 2, 3]
    assert list(helpers.list_for_each(structures["empty_list"], "list")) == []


def test_trees_are_iterated_in_their_order(structures):
    numbers = lambda name: [  # noqa: E731
        node.number.value_() for node in helpers.rb_for_each(structures[name], "link")
    ]
    assert numbers("tree") == [1, 2, 3, 4, 5]
    assert numbers("old_tree") == [1, 2, 3]
    assert numbers("empty_tree") == []


def test_circular_lists_and_trees_are_errors(structures):
    entries = helpers.list_for_each(structures["circular"], "list")
    assert [next(entries).number.value_() for _ in range(2)] == [1, 2]
    with pytest.raises(livecore.KernelError) as error:
        next(entries)
    assert error.value.address == structures["a"].address_
    with pytest.raises(livecore.KernelError):
        list(helpers.rb_for_each(structures["circular_tree"], "link"))


@pytest.mark.parametrize(
    "owner, free, owned",
    [
        (helpers.mtx_owner, ["mtx_free", "mtx_free_14"], ["mtx_owned", "mtx_contested"]),
        (helpers.rw_owner, ["rw_free", "rw_readers"], ["rw_owned", "rw_contested"]),
        (helpers.sx_owner, ["sx_free", "sx_sharers"], ["sx_owned"]),
        (helpers.lockmgr_owner, ["lk_free", "lk_sharers", "lk_kernel"], ["lk_owned"]),
    ],
)
def test_locks_have_their_owners(structures, owner, free, owned):
    for name in free:
        assert owner(structures[name]) is None, name
    for name in owned:
        assert owner(structures[name]).td_tid == 100, name


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        "import sys\n"
        "print(sys.argv[1:], prog['hz'].value_(), find_proc(prog, 1).p_comm.string_())\n"
        "raise SystemExit(int(sys.argv[1]))\n"
    )
    return path


def test_livecore_drgn_runs_a_script(debug, script):
    command = [installed("LIVECORE"), "drgn", debug.path, "--python", sys.executable]
    command += ["--kernel", debug.kernel, "--", script]
    done = subprocess.run([*command, "0", "x"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "['0', 'x'] 1000 b'init'\n"), done.stderr
    done = subprocess.run([*command, "7"], capture_output=True, text=True)
    assert done.returncode == 1 and "exit status: 7" in done.stderr


def test_livecore_drgn_uses_another_kernel_only_if_forced(debug, script, machine):
    other = machine("tiny").kernel
    command = [installed("LIVECORE"), "drgn", debug.path, "--python", sys.executable, "--kernel", other]
    path = script.with_name("symbol.py")
    path.write_text("print(hex(prog.symbol('hz').address), livecore.__name__)\n")
    done = subprocess.run([*command, "--", path], capture_output=True, text=True)
    assert done.returncode == 2 and "--force-kernel" in done.stderr
    done = subprocess.run([*command, "--force-kernel", "--", path], capture_output=True, text=True)
    assert done.returncode == 3 and done.stdout.startswith("0xffffffff"), done.stderr


def test_livecore_drgn_starts_a_session(debug):
    done = subprocess.run(
        [
            installed("LIVECORE"),
            "drgn",
            debug.kernel,
            debug.path,
            "--python",
            sys.executable,
        ],
        input="print(find_proc(prog, 1).p_pid.value_() + 41)\nprint(prog['hz'].value_())\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "42" in done.stdout and "1000" in done.stdout
