"""The processes in the kernel's list."""

from typing import Any, Iterable, Iterator, List, Set, Tuple

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.objects import utility
from volatility3.framework.renderers import format_hints

from livecore.volatility.variables import canonical, pointer

#: The most processes, pid_max of FreeBSD (sys/proc.h, PID_MAX) and more.
LIMIT = 1 << 20


def processes(kernel: interfaces.context.ModuleInterface) -> Iterator[Any]:
    """The processes in ``allproc``, the newest first."""
    entry = pointer(kernel, "allproc", "proc")
    seen: Set[int] = set()
    while entry != 0 and int(entry) not in seen and len(seen) < LIMIT:
        seen.add(int(entry))
        process = entry.dereference()
        yield process
        entry = process.p_list.le_next


class PsList(interfaces.plugins.PluginInterface):
    """Lists the processes in the kernel's list, without zombies."""

    _required_framework_version = (2, 0, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> List[interfaces.configuration.RequirementInterface]:
        return [requirements.ModuleRequirement(name="kernel", description="FreeBSD's kernel")]

    def _rows(self) -> Iterable[Tuple[int, Tuple[Any, ...]]]:
        kernel = self.context.modules[self.config["kernel"]]
        layer = self.context.layers[kernel.layer_name]
        for process in processes(kernel):
            has_parent = process.has_member("p_pptr") and process.p_pptr != 0
            yield 0, (
                format_hints.Hex(canonical(layer, process.vol.offset)),
                int(process.p_pid),
                int(process.p_pptr.p_pid) if has_parent else 0,
                int(process.p_numthreads) if process.has_member("p_numthreads") else 0,
                utility.array_to_string(process.p_comm),
            )

    def run(self) -> renderers.TreeGrid:
        columns = [("Offset", format_hints.Hex), ("PID", int), ("PPID", int), ("Threads", int)]
        return renderers.TreeGrid([*columns, ("Command", str)], self._rows())
