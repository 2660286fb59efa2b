"""The kernel and its modules."""

from typing import Any, Iterable, List, Set, Tuple

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.objects import utility
from volatility3.framework.renderers import format_hints

from livecore.volatility.variables import canonical, pointer

#: The most files.
LIMIT = 1 << 16
#: MAXPATHLEN of sys/param.h.
MAXPATHLEN = 1024


class Kldstat(interfaces.plugins.PluginInterface):
    """Lists the files that the kernel linked, as kldstat(8) does."""

    _required_framework_version = (2, 0, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> List[interfaces.configuration.RequirementInterface]:
        return [requirements.ModuleRequirement(name="kernel", description="FreeBSD's kernel")]

    def _rows(self) -> Iterable[Tuple[int, Tuple[Any, ...]]]:
        kernel = self.context.modules[self.config["kernel"]]
        layer = self.context.layers[kernel.layer_name]
        entry = pointer(kernel, "linker_files", "linker_file")
        seen: Set[int] = set()
        while entry != 0 and int(entry) not in seen and len(seen) < LIMIT:
            seen.add(int(entry))
            file = entry.dereference()
            yield 0, (
                int(file.id),
                int(file.refs),
                format_hints.Hex(canonical(layer, int(file.address))),
                format_hints.Hex(int(file.size)),
                utility.pointer_to_string(file.filename, MAXPATHLEN),
            )
            entry = file.link.tqe_next

    def run(self) -> renderers.TreeGrid:
        columns = [("Id", int), ("Refs", int), ("Address", format_hints.Hex), ("Size", format_hints.Hex)]
        return renderers.TreeGrid([*columns, ("Name", str)], self._rows())
