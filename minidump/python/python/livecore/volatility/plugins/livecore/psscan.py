"""Processes anywhere in memory."""

from typing import Any, Iterable, List, Tuple

from volatility3.framework import exceptions, interfaces, renderers
from volatility3.framework.configuration import requirements
from volatility3.framework.layers import scanners
from volatility3.framework.renderers import format_hints

from volatility3.plugins.livecore import pslist

#: P_MAGIC of sys/proc.h.
MAGIC = 0xBEEFFACE
#: PID_MAX of sys/proc.h.
PID_MAX = 99999
#: p_state of sys/proc.h.
STATES = {0: "new", 1: "normal", 2: "zombie"}


class PsScan(interfaces.plugins.PluginInterface):
    """Scans physical memory for structures of processes, also of those that ended."""

    _required_framework_version = (2, 0, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> List[interfaces.configuration.RequirementInterface]:
        return [requirements.ModuleRequirement(name="kernel", description="FreeBSD's kernel")]

    def _rows(self) -> Iterable[Tuple[int, Tuple[Any, ...]]]:
        kernel = self.context.modules[self.config["kernel"]]
        memory = self.context.layers[kernel.layer_name].dependencies[0]
        layer = self.context.layers[memory]
        needle = MAGIC.to_bytes(4, layer.dump.byte_order)
        at_magic = kernel.get_type("proc").relative_child_offset("p_magic")
        listed = {
            self.context.layers[kernel.layer_name].translate(process.vol.offset)[0]
            for process in pslist.processes(kernel)
        }
        for found in layer.scan(self.context, scanners.BytesScanner(needle)):
            at = found - at_magic
            try:
                process = self.context.object(
                    kernel.symbol_table_name + "!proc",
                    layer_name=memory,
                    offset=at,
                    native_layer_name=kernel.layer_name,
                )
                pid, state = int(process.p_pid), int(process.p_state)
                raw = layer.read(process.p_comm.vol.offset, process.p_comm.vol.size)
            except exceptions.InvalidAddressException:
                continue
            name = raw.split(b"\0")[0]
            if not 0 <= pid <= PID_MAX or state not in STATES or not name or not name.isascii():
                continue
            yield 0, (
                format_hints.Hex(at),
                pid,
                STATES[state],
                "yes" if at in listed else "no",
                name.decode(),
            )

    def run(self) -> renderers.TreeGrid:
        columns = [("Offset", format_hints.Hex), ("PID", int), ("State", str), ("Listed", str)]
        return renderers.TreeGrid([*columns, ("Command", str)], self._rows())
