"""Helpers for FreeBSD's structures, for programs of ``livecore.drgn.program``.

The iterators raise an exception if a list of a damaged dump is circular.
"""

import struct
from collections.abc import Iterator
from typing import Optional, Union

import drgn
from drgn import Object, Program, StackTrace

import livecore

from . import dump_of

__all__ = [
    "find_proc",
    "find_thread",
    "for_each_proc",
    "for_each_thread",
    "linker_files",
    "list_for_each",
    "lockmgr_owner",
    "mtx_owner",
    "print_msgbuf",
    "rb_for_each",
    "rw_owner",
    "slist_for_each",
    "stack_trace",
    "stailq_for_each",
    "sx_owner",
    "tailq_for_each",
    "vm_page",
]

_THREADS = "livecore.threads"

# More entries than any list of a kernel has.
_MOST = 1 << 24


def _chain(first: Object, link: str, following: str) -> Iterator[Object]:
    """The entries from ``first``, whose member ``link`` has the pointer ``following``."""
    seen: set[int] = set()
    entry = first.read_()
    while entry:
        address = entry.value_()
        if address in seen or len(seen) >= _MOST:
            raise livecore.KernelError(
                f"list of {first.type_.type_name()} is circular at {address:#x}", address=address
            )
        seen.add(address)
        yield entry
        entry = getattr(getattr(entry, link), following).read_()


def list_for_each(head: Object, link: str) -> Iterator[Object]:
    """The entries of a LIST (queue(3)): pointers of the type in its head. ``link`` names their LIST_ENTRY.

    >>> for proc in list_for_each(prog["allproc"], "p_list"): ...
    """
    return _chain(head.lh_first, link, "le_next")


def slist_for_each(head: Object, link: str) -> Iterator[Object]:
    """The entries of an SLIST. ``link`` names their SLIST_ENTRY."""
    return _chain(head.slh_first, link, "sle_next")


def stailq_for_each(head: Object, link: str) -> Iterator[Object]:
    """The entries of an STAILQ. ``link`` names their STAILQ_ENTRY."""
    return _chain(head.stqh_first, link, "stqe_next")


def tailq_for_each(head: Object, link: str) -> Iterator[Object]:
    """The entries of a TAILQ. ``link`` names their TAILQ_ENTRY."""
    return _chain(head.tqh_first, link, "tqe_next")


def rb_for_each(head: Object, link: str) -> Iterator[Object]:
    """The entries of an RB tree (tree(3)) in its order. ``link`` names their RB_ENTRY."""
    seen: set[int] = set()
    above: list[Object] = []
    entry = head.rbh_root.read_()
    while entry or above:
        while entry:
            address = entry.value_()
            if address in seen or len(seen) >= _MOST:
                raise livecore.KernelError(f"tree is circular at {address:#x}", address=address)
            seen.add(address)
            above.append(entry)
            entry = _rb_child(entry, link, 0)
        entry = above.pop()
        yield entry
        entry = _rb_child(entry, link, 1)


def _rb_child(entry: Object, link: str, side: int) -> Object:
    links = getattr(entry, link)
    try:
        # sys/tree.h since 13.0: the parent, the left and the right child.
        child = links.rbe_link[1 + side]
    except AttributeError:
        child = links.rbe_right if side else links.rbe_left
    return child.read_()


def for_each_proc(prog: Program) -> Iterator[Object]:
    """The processes, ``struct proc *``, in the order of the kernel's list, then the zombies."""
    seen = set()
    for proc in list_for_each(prog["allproc"], "p_list"):
        seen.add(proc.value_())
        yield proc
    if "zombproc" in prog:
        yield from list_for_each(prog["zombproc"], "p_list")
    elif "pidhashtbl" in prog:
        # Since 13.0, the zombies are the processes that are only in the hash table.
        table = prog["pidhashtbl"]
        for slot in range(min(prog["pidhash"].value_(), _MOST) + 1):
            for proc in list_for_each(table[slot], "p_hash"):
                if proc.value_() not in seen:
                    yield proc


def find_proc(prog: Program, pid: int) -> Optional[Object]:
    """The process with this id; None if there is none."""
    return next((proc for proc in for_each_proc(prog) if proc.p_pid == pid), None)


def for_each_thread(where: Union[Program, Object]) -> Iterator[Object]:
    """The threads, ``struct thread *``, of a ``struct proc *`` or of all processes of a program."""
    if isinstance(where, Program):
        for proc in for_each_proc(where):
            yield from for_each_thread(proc)
    else:
        yield from tailq_for_each(where.p_threads, "td_plist")


def find_thread(prog: Program, tid: int) -> Optional[Object]:
    """The thread with this id; None if there is none."""
    return next((thread for thread in for_each_thread(prog) if thread.td_tid == tid), None)


# The members of `struct pt_regs`, from which drgn takes the first frame.
_PT_REGS = {
    "amd64": (
        "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"
    ).split(),
    "arm64": [f"x{n}" for n in range(31)] + ["sp", "pc", "cpsr"],
}


def stack_trace(thread: Union[Object, int], prog: Optional[Program] = None) -> StackTrace:
    """The backtrace of a ``struct thread *``, or of a thread id of ``prog``.

    drgn unwinds from the thread's registers. Where it finds fewer frames than livecore, which follows
    traps and interrupts, the trace has livecore's program counters and no registers.
    """
    if isinstance(thread, Object):
        prog, tid = thread.prog_, thread.td_tid.value_()
    else:
        tid = thread
        if prog is None:
            raise TypeError("a thread id needs prog")
    dump = dump_of(prog)
    if _THREADS not in prog.cache:
        prog.cache[_THREADS] = {thread.tid: thread for thread in dump.threads()}
    found = prog.cache[_THREADS].get(tid)
    if found is None:
        raise LookupError(f"no thread {tid}")
    frames = found.backtrace()
    if not frames:
        raise ValueError(f"registers of thread {tid} are unknown: its CPU was not stopped")
    counters = [frame.pc for frame in frames]
    unwound = _unwound(prog, dump, found)
    if unwound is not None and [frame.pc for frame in unwound][: len(counters)] == counters:
        return unwound
    return prog.stack_trace_from_pcs(counters)


def _unwound(
    prog: Program, dump: "livecore.Dump", thread: "livecore.Thread"
) -> Optional[StackTrace]:
    """drgn's own trace, if drgn can make it."""
    names = _PT_REGS.get(dump.architecture)
    if names is None:
        return None
    registers = thread.registers
    word = prog.int_type("unsigned long", 8, False)
    members = [drgn.TypeMember(word, name, 64 * n) for n, name in enumerate(names)]
    # drgn/libdrgn/arch_aarch64.c: Linux's structure has more members, which drgn does not read.
    size = max(8 * len(names), {"arm64": 336}.get(dump.architecture, 0))
    pt_regs = prog.struct_type("pt_regs", size, members)
    values = [registers.get(name) or 0 for name in names]
    data = struct.pack(f"<{len(values)}Q", *values).ljust(size, b"\0")
    try:
        return prog.stack_trace(Object.from_bytes_(prog, pt_regs, data))
    except (drgn.FaultError, LookupError, ValueError):
        return None


def print_msgbuf(prog: Program, all: bool = False) -> None:
    """Prints the message buffer, as dmesg(8) does."""
    print(dump_of(prog).dmesg(all=all), end="")


def linker_files(prog: Program) -> Iterator[Object]:
    """The loaded kernel files, ``struct linker_file *``: the kernel, then its modules."""
    return tailq_for_each(prog["linker_files"], "link")


def vm_page(prog: Program, address: int) -> Optional[Object]:
    """The ``struct vm_page *`` of the page with this physical address; None if there is none."""
    page_size = dump_of(prog).page_size
    address -= address % page_size
    segments, count = prog["vm_phys_segs"], prog["vm_phys_nsegs"].value_()
    for number in range(min(count, segments.type_.length or 0)):
        segment = segments[number]
        if segment.start <= address < segment.end:
            page = segment.first_page + (address - segment.start.value_()) // page_size
            return page if page.phys_addr == address else None
    return None


def _owner(prog: Program, word: int, flags: int) -> Optional[Object]:
    return Object(prog, "struct thread *", word & ~flags) if word & ~flags else None


# The flags of lock words differ between releases, but never exceed these bits, to which threads are
# aligned: sys/mutex.h, sys/rwlock.h, sys/sx.h and sys/lockmgr.h of 10.4 to 15.0.
_MTX_FLAGS = 0x7
_SHARED = 0x1
_FLAGS = 0x1F


def mtx_owner(mtx: Object) -> Optional[Object]:
    """The ``struct thread *`` that owns a ``struct mtx``; None if no thread does."""
    return _owner(mtx.prog_, mtx.mtx_lock.value_(), _MTX_FLAGS)


def _exclusive(prog: Program, word: int) -> Optional[Object]:
    return None if word & _SHARED else _owner(prog, word, _FLAGS)


def rw_owner(rw: Object) -> Optional[Object]:
    """The thread that owns a ``struct rwlock`` for writing; None if no thread does, or readers do."""
    return _exclusive(rw.prog_, rw.rw_lock.value_())


def sx_owner(sx: Object) -> Optional[Object]:
    """The thread that owns a ``struct sx`` exclusively; None if no thread does, or sharers do."""
    return _exclusive(sx.prog_, sx.sx_lock.value_())


def lockmgr_owner(lock: Object) -> Optional[Object]:
    """The thread that owns a ``struct lock`` exclusively; None if no thread does, or sharers do.

    A lock that was passed to the kernel (LK_KERNPROC) has no owner.
    """
    word = lock.lk_lock.value_()
    kernel = (1 << 8 * drgn.sizeof(lock.lk_lock)) - 1
    return None if word | _FLAGS == kernel else _exclusive(lock.prog_, word)
