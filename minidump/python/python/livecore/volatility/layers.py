"""Layers: the physical memory of a dump, and the kernel's memory."""

import functools
import urllib.parse
import urllib.request
from typing import Any, Dict, Iterable, List, Optional, Tuple

from volatility3.framework import constants, exceptions, interfaces
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import intel, linear

import livecore

from .dumps import dump_of

#: The root of the page tables of a kernel layer. No process has it, because it is odd: a dump does not
#: contain the tables of the kernel where a CPU searches them, so the package translates its addresses.
KERNEL = 1

_join = interfaces.configuration.path_join


class LivecoreMemory(interfaces.layers.DataLayerInterface):
    """The physical memory of a dump. Pages that are not in the dump are invalid."""

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> None:
        super().__init__(context, config_path, name, metadata)
        self._path: str = self.config["path"]

    @classmethod
    def get_requirements(cls) -> List[interfaces.configuration.RequirementInterface]:
        return [requirements.StringRequirement(name="path", description="Path of the dump")]

    @property
    def dump(self) -> "livecore.Dump":
        return dump_of(self._path)

    @property
    def minimum_address(self) -> int:
        return 0

    @functools.cached_property
    def maximum_address(self) -> int:
        ranges = self.dump.info().get("dump_avail")
        if ranges:
            return max(int(found["end"], 16) for found in ranges) - 1
        runs = self.dump.pages(1 << 20)
        return max((run.address + len(run) for run in runs), default=1) - 1

    def is_valid(self, offset: int, length: int = 1) -> bool:
        size = self.dump.page_size
        first, last = offset // size, (offset + max(length, 1) - 1) // size
        return offset >= 0 and all(self._has(page * size) for page in range(first, last + 1))

    @functools.lru_cache(maxsize=4096)
    def _has(self, address: int) -> bool:
        try:
            self.dump.read_phys(address, 1)
        except (livecore.Error, OverflowError):
            return False
        return True

    def read(self, offset: int, length: int, pad: bool = False) -> bytes:
        try:
            return self.dump.read_phys(offset, length)
        except (livecore.Error, OverflowError) as error:
            if not pad:
                at = getattr(error, "address", None)
                raise exceptions.InvalidAddressException(
                    self.name, offset if at is None else at, str(error)
                ) from error
        size = self.dump.page_size
        out, at, end = [], offset, offset + length
        while at < end:
            count = min(size - at % size, end - at)
            out.append(self.dump.read_phys(at, count) if self._has(at // size * size) else bytes(count))
            at += count
        return b"".join(out)

    def write(self, offset: int, data: bytes) -> None:
        raise NotImplementedError("a dump cannot be written")

    @functools.cached_property
    def _runs(self) -> List[Tuple[int, int]]:
        """The start and the end of each run of pages in the dump."""
        runs: List[Tuple[int, int]] = []
        for run in self.dump.pages(1 << 20):
            start, end = run.address, run.address + len(run)
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((start, end))
        return runs

    def _scan_iterator(
        self,
        scanner: interfaces.layers.ScannerInterface,
        sections: Iterable[Tuple[int, int]],
        linear: bool = True,
    ) -> Iterable[interfaces.layers.IteratorValue]:
        # Volatility does not scan a piece of which any page is missing.
        for first, length in sections:
            for start, end in self._runs:
                at, end = max(start, first), min(end, first + length)
                while at < end:
                    count = min(scanner.chunk_size + scanner.overlap, end - at)
                    yield [(self.name, at, count)], at + count
                    at += min(scanner.chunk_size, count)


class _Kernel:
    """The addresses of the kernel, translated by the package."""

    _base_layer: str
    _context: Any
    address_mask: int
    config: Any
    name: str

    @functools.lru_cache(maxsize=4096)
    def _frame(self, page: int) -> Optional[int]:
        memory = self._context.layers[self._base_layer]
        try:
            return int(memory.dump.translate(page))
        except (livecore.Error, OverflowError):
            return None

    def _kernel_page(self, offset: int, size: int, bits: int) -> int:
        """The physical address of ``offset``, of which ``bits`` bits are significant."""
        address = offset
        if address >> (bits - 1) & 1 and bits in (39, 48):
            address |= (1 << 64) - (1 << bits)
        frame = self._frame(address // size * size)
        if frame is None:
            # The lower half is that of processes.
            skip = 12 if address >> (bits - 1) & 1 else bits - 1
            raise exceptions.PagedInvalidAddressException(
                self.name, offset, skip, 0, f"the kernel does not map {address:#x}"
            )
        return frame + offset % size


class _IntelKernel(_Kernel):
    """The kernel of an Intel machine. The layer of a process, whose root is a page, reads page tables."""

    _page_map_offset: int

    def _translate(self, offset: int) -> Tuple[int, int, str]:
        if self._page_map_offset != KERNEL:
            return super()._translate(offset)  # type: ignore[misc,no-any-return]
        size = 1 << 12
        page = self._kernel_page(offset, size, self._maxvirtaddr)  # type: ignore[attr-defined]
        return page, size, self._base_layer


class LivecoreIntel(_IntelKernel, intel.Intel):
    """i386 without PAE."""


class LivecoreIntelPAE(_IntelKernel, intel.IntelPAE):
    """i386 with PAE."""


class LivecoreIntel32e(_IntelKernel, intel.Intel32e):
    """amd64."""


class LivecoreKernel(_Kernel, linear.LinearlyMappedLayer):
    """The kernel of another architecture."""

    def __init__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        name: str,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> None:
        super().__init__(context, config_path, name, metadata)
        self._base_layer = self.config["memory_layer"]

    @classmethod
    def get_requirements(cls) -> List[interfaces.configuration.RequirementInterface]:
        return [
            requirements.TranslationLayerRequirement(name="memory_layer", optional=False),
            requirements.IntRequirement(name="kernel_virtual_offset", optional=True),
        ]

    @property
    def dependencies(self) -> List[str]:
        return [self._base_layer]

    @property
    def minimum_address(self) -> int:
        return 0

    @property
    def maximum_address(self) -> int:
        memory = self._context.layers[self._base_layer]
        return int((1 << 8 * memory.dump.pointer_size) - 1)

    def is_valid(self, offset: int, length: int = 1) -> bool:
        try:
            return all(
                self._context.layers[layer].is_valid(at, size)
                for _, _, at, size, layer in self.mapping(offset, length)
            )
        except exceptions.InvalidAddressException:
            return False

    def mapping(
        self, offset: int, length: int, ignore_errors: bool = False
    ) -> Iterable[Tuple[int, int, int, int, str]]:
        memory = self._context.layers[self._base_layer]
        size = memory.dump.page_size
        end = offset + length
        while True:
            count = min(size - offset % size, end - offset)
            try:
                at = self._kernel_page(offset, size, 64)
                if not memory.is_valid(at):
                    raise exceptions.InvalidAddressException(self._base_layer, at)
                yield offset, count, at, count, self._base_layer
            except exceptions.InvalidAddressException:
                if not ignore_errors:
                    raise
            offset += count
            if offset >= end:
                return


def _kernel_class(dump: "livecore.Dump") -> type:
    if dump.architecture == "amd64":
        return LivecoreIntel32e
    if dump.architecture == "i386":
        # Before 12.0, a kernel has PAE or not; since then it has both (sys/i386/i386/pmap_base.c).
        found = dump.symbols.get("pae_mode")
        has = dump.read(found, 4) != bytes(4) if found else "IdlePDPT" in dump.symbols
        return LivecoreIntelPAE if has else LivecoreIntel
    return LivecoreKernel


class LivecoreMemoryStacker(interfaces.automagic.StackerLayerInterface):
    """Recognises dumps."""

    # Before the formats of other systems, of which some are ELF files.
    stack_order = 5
    exclusion_list = ["linux", "mac", "windows"]

    @classmethod
    def stack(
        cls,
        context: interfaces.context.ContextInterface,
        layer_name: str,
        progress_callback: constants.ProgressCallback = None,
    ) -> Optional[interfaces.layers.DataLayerInterface]:
        location = getattr(context.layers[layer_name], "location", None)
        url = urllib.parse.urlparse(location or "")
        if url.scheme != "file":
            return None
        path = urllib.request.url2pathname(url.path)
        try:
            dump_of(path)
        except (livecore.NotADumpError, livecore.UnsupportedError):
            return None
        name = context.layers.free_layer_name("LivecoreMemory")
        config_path = _join("LivecoreHelper", name)
        context.config[_join(config_path, "path")] = path
        return LivecoreMemory(context, config_path, name, {"os": "freebsd"})


class LivecoreKernelStacker(interfaces.automagic.StackerLayerInterface):
    """Adds the memory of the kernel."""

    stack_order = 6
    exclusion_list = ["linux", "mac", "windows"]

    @classmethod
    def stack(
        cls,
        context: interfaces.context.ContextInterface,
        layer_name: str,
        progress_callback: constants.ProgressCallback = None,
    ) -> Optional[interfaces.layers.DataLayerInterface]:
        memory = context.layers[layer_name]
        if not isinstance(memory, LivecoreMemory):
            return None
        found = _kernel_class(memory.dump)
        name = context.layers.free_layer_name("LivecoreKernel")
        config_path = _join("LivecoreHelper", name)
        context.config[_join(config_path, "memory_layer")] = layer_name
        if issubclass(found, intel.Intel):
            context.config[_join(config_path, "page_map_offset")] = KERNEL
        # FreeBSD's kernels run where they are linked.
        context.config[_join(config_path, "kernel_virtual_offset")] = 0
        layer = found(context, config_path, name, {"os": "freebsd"})
        assert isinstance(layer, interfaces.layers.DataLayerInterface)
        return layer
