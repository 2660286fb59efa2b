"""The kernel message buffer."""

from typing import Any, Iterable, List, Tuple

from volatility3.framework import interfaces, renderers
from volatility3.framework.configuration import requirements

from livecore.volatility.variables import pointer

#: MSG_MAGIC of sys/msgbuf.h.
MAGIC = 0x063062
#: The largest buffer that is read.
LIMIT = 64 << 20


class Dmesg(interfaces.plugins.PluginInterface):
    """Prints the kernel message buffer, the oldest line first."""

    _required_framework_version = (2, 0, 0)
    _version = (1, 0, 0)

    @classmethod
    def get_requirements(cls) -> List[interfaces.configuration.RequirementInterface]:
        return [requirements.ModuleRequirement(name="kernel", description="FreeBSD's kernel")]

    def _rows(self) -> Iterable[Tuple[int, Tuple[Any, ...]]]:
        kernel = self.context.modules[self.config["kernel"]]
        buffer = pointer(kernel, "msgbufp", "msgbuf").dereference()
        size, sequence = int(buffer.msg_size), int(buffer.msg_wseq)
        if int(buffer.msg_magic) != MAGIC or not 0 < size <= LIMIT:
            raise ValueError(f"message buffer: magic {int(buffer.msg_magic):#x}, size {size}")
        layer = self.context.layers[kernel.layer_name]
        data = layer.read(int(buffer.msg_ptr), size, pad=True)
        at = sequence % size
        text = (data[at:] + data[:at]).replace(b"\0", b"").decode(errors="replace")
        for line in text.splitlines():
            yield 0, (line,)

    def run(self) -> renderers.TreeGrid:
        return renderers.TreeGrid([("Message", str)], self._rows())
