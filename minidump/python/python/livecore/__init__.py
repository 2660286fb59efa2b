'''FreeBSD kernel dumps: read, verify, convert and debug them.

Every kind of dump (minidump, full dump, ELF core of ``livecore convert``), every container and every
codec opens the same way. ``open`` decompresses nothing: a read decodes the parts that it needs.

Open a dump
===========

>>> import livecore
>>> dump = livecore.open("vmcore.0.zst", kernel="kernel")
>>> dump.kind, dump.architecture, dump.page_size
('minidump', 'amd64', 4096)

Without ``kernel``, livecore searches for the kernel file near the dump, in /boot and in /usr/lib/debug when
it first needs it. It refuses a file that is the kernel of another dump. ``key`` is the PEM file of the private
key for an encrypted dump. A dump is a context manager; ``dump.close()`` closes it.

What crashed?
=============

``threads`` returns the threads in the order of the kernel's list, and ``backtrace`` their frames, through
traps and interrupts:

>>> [crashed] = [thread for thread in dump.threads() if thread.context == "crashed"]
>>> print(crashed.title)
(pid 903) sysctl (crashed)
>>> for frame in dump.backtrace(crashed)[:4]:
...     print(frame.function)
doadump
kern_reboot
vpanic
panic
>>> hex(crashed.registers["rip"])
'0xffffffff802003a2'
>>> crashed.registers["rax"] is None    # not saved, and not zero
True

``processes``, ``modules`` and ``dmesg`` return what ps(1), kldstat(8) and dmesg(8) print:

>>> [process.command for process in dump.processes()][:3]
['sysctl', 'top', 'vi']
>>> [module.name for module in dump.modules()]
['kernel', 'synth.ko', 'if_synth.ko']
>>> "SYNTH" in dump.dmesg()
True

Read memory
===========

``symbols`` maps names to addresses. Addresses are integers:

>>> hz = dump.symbols["hz"]
>>> int.from_bytes(dump.read(hz, 4), dump.byte_order)
1000
>>> dump.read_phys(dump.translate(hz), 4) == dump.read(hz, 4)
True
>>> dump.symbols.lookup(dump.symbols["panic"] + 5)
('panic', 5)

A page that is not in the dump is an error, and never zeros:

>>> dump.read(0x1000, 8)
Traceback (most recent call last):
    ...
livecore.NotMappedError: virtual address 0x1000 is not mapped: the address is in neither the direct map nor the kernel map

``pages`` iterates over all memory. The data has the buffer protocol, so NumPy uses it without a copy:

>>> sum(len(run) for run in dump.pages()) == dump.page_count * dump.page_size
True
>>> import numpy
>>> words = numpy.frombuffer(next(dump.pages()).data, dtype="<u8")
>>> words.nbytes % dump.page_size
0

Verify, convert, compare
========================

``info`` is a dict with the properties of the dump, and ``verify`` checks it:

>>> facts = dump.info()
>>> facts["codec"], facts["container"]
('zstd', 'sealed')
>>> report = dump.verify()
>>> report.verdict, report.findings
('sound', [])

``livecore.verify`` also checks a file that cannot be opened. Each finding has its ``rule``, ``region``,
``offset``, ``found`` and ``expected``. ``convert`` writes another codec, container or kind of dump. The file
gets its name when it is complete, and replaces no file unless ``force`` is given:

>>> written = dump.convert("core", to="elf")    # then: lldb kernel -c core
>>> dump.compare("core").answer
'same'

Errors
======

All errors of livecore are ``livecore.Error``. They have the attributes ``region``, ``offset``, ``address``,
``found`` and ``expected``, which are None where they are unknown. Errors of the system are ``OSError``:

>>> with open("truncated", "wb") as file:
...     _ = file.write(open("vmcore.0.zst", "rb").read()[:5000])
>>> try:
...     livecore.open("truncated").read(hz, 4)
... except livecore.Error as error:
...     error.address == hz or error.offset is not None
True
>>> livecore.open("missing")
Traceback (most recent call last):
    ...
FileNotFoundError: [Errno 2] No such file or directory: 'missing'

Threads
=======

Every method releases the interpreter's lock while it reads, and threads may share a dump: open it once.
After ``close``, methods raise ``ClosedError``; a call that runs in another thread completes.

>>> dump.close()
>>> dump.read(hz, 4)
Traceback (most recent call last):
    ...
livecore.ClosedError: the dump is closed

``livecore.drgn`` creates a drgn program for a dump.
'''

from ._errors import (
    BrokenError,
    ClosedError,
    DumpWarning,
    EncryptedError,
    Error,
    KernelError,
    NotADumpError,
    NotInDumpError,
    NotMappedError,
    PanicError,
    ReadError,
    UnsupportedError,
)
from ._livecore import (
    Comparison,
    Dump,
    Finding,
    Frame,
    Module,
    PageRun,
    Pages,
    Process,
    Report,
    Symbols,
    Thread,
    Trap,
    Written,
    compare,
    isf,
    open,
    verify,
)

__all__ = [
    "BrokenError",
    "ClosedError",
    "Comparison",
    "Dump",
    "DumpWarning",
    "EncryptedError",
    "Error",
    "Finding",
    "Frame",
    "KernelError",
    "Module",
    "NotADumpError",
    "NotInDumpError",
    "NotMappedError",
    "PageRun",
    "Pages",
    "PanicError",
    "Process",
    "ReadError",
    "Report",
    "Symbols",
    "Thread",
    "Trap",
    "UnsupportedError",
    "Written",
    "compare",
    "isf",
    "open",
    "verify",
]

# Messages and documentation name the public classes.
for _name in __all__:
    if _name.endswith(("Error", "Warning")):
        globals()[_name].__module__ = __name__
del _name
