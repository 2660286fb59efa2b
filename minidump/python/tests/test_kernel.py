"""Processes, threads, modules and messages: what the program prints."""

import pytest

import livecore
from conftest import document, run

MACHINES = ["tiny", "arm64", "riscv64", "i386"]


def number(text):
    return None if text is None else int(text, 16)


@pytest.mark.parametrize("name", MACHINES)
def test_threads_are_those_of_the_program(machine, name):
    made = machine(name)
    expected = document("threads", made.path, "--kernel", made.kernel)["threads"]
    with made.open() as dump:
        threads = dump.threads()
        assert len(threads) == len(expected) > 10
        for thread, wanted in zip(threads, expected):
            for key in ("pid", "command", "tid", "name", "title", "state", "cpu", "wait", "context"):
                assert getattr(thread, key) == wanted[key], (thread, key)
            for key in ("address", "process", "pcb"):
                assert getattr(thread, key) == number(wanted[key]), (thread, key)
            registers = {name: number(value) for name, value in wanted["registers"].items()}
            assert thread.registers == registers
            frames = thread.backtrace()
            assert len(frames) == len(wanted["frames"])
            for frame, of_frame in zip(frames, wanted["frames"]):
                assert frame.pc == number(of_frame["pc"])
                assert frame.fp == number(of_frame["fp"])
                assert frame.function == of_frame["function"]
                assert frame.offset == of_frame["offset"]
                assert frame.ends == of_frame.get("ends")
                assert frame.omitted == of_frame.get("omitted", 0)
                trap = of_frame["trap"]
                assert (frame.trap is None) == (trap is None)
                if trap:
                    assert frame.trap.cause == trap["cause"]
                    assert frame.trap.address == number(trap["address"])
                    assert frame.trap.number == number(trap["number"])
                    assert frame.trap.fault == number(trap["fault"])
                    assert frame.trap.from_user == trap["from_user"]
                    assert frame.trap.registers == {
                        name: number(value) for name, value in trap["registers"].items()
                    }


def test_backtrace_takes_a_thread_or_its_id(dump):
    for thread in dump.threads():
        lines = [str(frame) for frame in dump.backtrace(thread)]
        assert lines == [str(frame) for frame in dump.backtrace(thread.tid)]
    with pytest.raises(livecore.KernelError):
        dump.backtrace(7)
    with pytest.raises(TypeError):
        dump.backtrace("init")


def test_lines_of_frames_and_traps_are_those_of_the_program(tiny, dump):
    [crashed] = [thread for thread in dump.threads() if thread.context == "crashed"]
    text = run("threads", tiny.path, "--kernel", tiny.kernel, "--crashed")
    for frame in crashed.backtrace():
        assert str(frame) in text
        assert frame.trap is None or str(frame.trap) in text
    assert any(frame.trap for frame in crashed.backtrace())


def test_processes_are_those_of_the_program(tiny, dump):
    expected = document("ps", tiny.path, "--kernel", tiny.kernel)["processes"]
    processes = dump.processes()
    assert len(processes) == len(expected)
    for process, wanted in zip(processes, expected):
        for key in ("pid", "ppid", "command", "zombie"):
            assert getattr(process, key) == wanted[key]
        assert process.address == number(wanted["address"])
        assert [thread.tid for thread in process.threads] == [t["tid"] for t in wanted["threads"]]


def test_message_buffer_is_that_of_the_program(tiny, dump):
    assert dump.dmesg() == run("dmesg", tiny.path, "--kernel", tiny.kernel)
    assert dump.dmesg(all=True) == run("dmesg", "--all", tiny.path, "--kernel", tiny.kernel)


def test_modules_are_the_kernel_and_its_modules(dump):
    modules = dump.modules()
    assert [module.name for module in modules] == ["kernel", "synth.ko", "if_synth.ko"]
    assert [module.is_kernel for module in modules] == [True, False, False]
    first = modules[0]
    assert first.address == dump.symbols["kernbase"] if "kernbase" in dump.symbols else first.address
    assert all(module.size > 0 and module.linker_file and module.path for module in modules)


def test_kernel_is_searched_for_near_the_dump(tiny, tmp_path):
    path = tmp_path / "vmcore.0"
    path.write_bytes(tiny.path.read_bytes())
    with livecore.open(path) as dump:
        assert dump.kernel is None
        with pytest.raises(livecore.KernelError) as error:
            dump.threads()
        text = str(error.value)
        assert f"not found in {tmp_path}/, /boot and /usr/lib/debug" in text and "kernel=" in text
        assert dump.read_phys(next(dump.pages()).address, 4)
        (tmp_path / "kernel").write_bytes(tiny.kernel.read_bytes())
        assert dump.kernel == tmp_path / "kernel"
        assert dump.threads()


def test_kernel_of_another_dump_is_used_if_forced(tiny, machine):
    other = machine("arm64")
    with livecore.open(tiny.path, kernel=other.kernel, force_kernel=True) as dump:
        assert dump.kernel == other.kernel and len(dump.symbols) > 100


def test_kernel_of_another_dump_is_refused(tiny, machine):
    other = machine("arm64")
    with pytest.raises(livecore.KernelError) as error:
        livecore.open(tiny.path, kernel=other.kernel)
    assert error.value.region == "architecture"
    assert error.value.found and error.value.expected
    with pytest.raises(FileNotFoundError):
        livecore.open(tiny.path, kernel="/no/such/kernel")
