"""drgn programs of FreeBSD kernel dumps.

drgn (https://drgn.readthedocs.io) is a programmable debugger. ``program`` creates a drgn program for a dump,
with its memory, types, variables, symbols and source lines.

>>> import livecore.drgn
>>> prog = livecore.drgn.program("vmcore.0.zst", "kernel")
>>> prog["osreldate"].value_()
1400097
>>> print(prog.symbol("panic").name)
panic

``livecore.drgn.helpers`` has helpers for FreeBSD's structures:

>>> from livecore.drgn.helpers import find_proc, for_each_thread, stack_trace
>>> init = find_proc(prog, 1)
>>> init.p_comm.string_().decode()
'init'
>>> [thread.td_tid.value_() for thread in for_each_thread(init)]
[100004]

The kernel needs debug information (DWARF). Without it, the program has memory and symbols. FreeBSD's
distribution set kernel-dbg installs it as /usr/lib/debug/boot/kernel/kernel.debug, where ``program`` finds it.
"""

import os
from typing import Optional, Union

import drgn

import livecore

_Path = Union[str, "os.PathLike[str]"]

_PLATFORMS = {
    "amd64": drgn.Architecture.X86_64,
    "arm64": drgn.Architecture.AARCH64,
    "i386": drgn.Architecture.I386,
    "arm": drgn.Architecture.ARM,
    "riscv": drgn.Architecture.RISCV64,
    "powerpc64": drgn.Architecture.PPC64,
    "powerpc64le": drgn.Architecture.PPC64,
}

_DUMP = "livecore.dump"


def program(
    dump: Union["livecore.Dump", _Path], kernel: Optional[_Path] = None, *, force_kernel: bool = False
) -> drgn.Program:
    """Returns a program for ``dump``, a ``livecore.Dump`` or a path.

    ``kernel`` is the kernel file with debug information; by default, livecore searches for it as
    ``livecore.open`` does. With ``force_kernel``, livecore uses ``kernel`` for the dump of a path even if it
    does not match the dump. The dump must stay open while the program is used.
    """
    if not isinstance(dump, livecore.Dump):
        dump = livecore.open(dump, kernel=kernel, force_kernel=force_kernel)
    name = dump.architecture
    architecture = _PLATFORMS.get(name, drgn.Architecture.UNKNOWN)
    flags = drgn.PlatformFlags(0)
    if dump.pointer_size == 8:
        flags |= drgn.PlatformFlags.IS_64_BIT
    if dump.byte_order == "little":
        flags |= drgn.PlatformFlags.IS_LITTLE_ENDIAN
    prog = drgn.Program(drgn.Platform(architecture, flags))
    prog.cache[_DUMP] = dump
    _add_memory(prog, dump)
    has_file = _add_kernel(prog, dump, kernel)
    _add_symbols(prog, dump, has_file)
    return prog


def dump_of(prog: drgn.Program) -> "livecore.Dump":
    """Returns the dump of a program that ``program`` made."""
    try:
        dump = prog.cache[_DUMP]
    except KeyError:
        raise ValueError("the program was not made by livecore.drgn.program") from None
    assert isinstance(dump, livecore.Dump)
    return dump


def _add_memory(prog: drgn.Program, dump: "livecore.Dump") -> None:
    def read(address: int, count: int, offset: int, physical: bool) -> bytes:
        try:
            return dump.read_phys(address, count) if physical else dump.read(address, count)
        except livecore.Error as error:
            raise drgn.FaultError(str(error), error.address or address) from error

    last = (1 << 8 * dump.pointer_size) - 1
    prog.add_memory_segment(0, last, read, False)
    prog.add_memory_segment(0, (1 << 64) - 1, read, True)


def _add_kernel(prog: drgn.Program, dump: "livecore.Dump", kernel: Optional[_Path]) -> bool:
    """Adds the kernel's file. Returns whether drgn can read it."""
    module = prog.extra_module("kernel", create=True)
    # Raises KernelError if there is no kernel.
    module.address_range = dump.kernel_range
    path = kernel if kernel is not None else dump.kernel
    assert path is not None
    # livecore has compared the file with the dump, and drgn compares build-ids only.
    module.try_file(path, force=True)
    if module.wants_debug_file() and dump.debug_file is not None:
        module.try_file(dump.debug_file, force=True)
    return module.loaded_file_status == drgn.ModuleFileStatus.HAVE


def _add_symbols(prog: drgn.Program, dump: "livecore.Dump", has_file: bool) -> None:
    """Adds the functions of loaded modules, and the kernel's symbols if drgn cannot read its file."""
    symbols = dump.symbols
    start, end = dump.kernel_range

    def symbol(name: str, address: int, size: int) -> drgn.Symbol:
        return drgn.Symbol(
            name, address, size, drgn.SymbolBinding.GLOBAL, drgn.SymbolKind.UNKNOWN
        )

    def find(
        prog: drgn.Program, name: Optional[str], address: Optional[int], one: bool
    ) -> list[drgn.Symbol]:
        found = []
        if address is not None:
            if not has_file or not start <= address < end:
                function = symbols.lookup(address)
                if function is not None and name in (None, function[0]):
                    first = address - function[1]
                    found.append(symbol(function[0], first, function[1] + 1))
        elif not has_file:
            names = symbols if name is None else [name] if name in symbols else []
            found = [symbol(name, symbols[name], symbols.size(name)) for name in names]
        return found[:1] if one else found

    prog.register_symbol_finder("livecore", find, enable_index=-1)
