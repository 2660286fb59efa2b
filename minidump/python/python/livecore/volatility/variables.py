"""Variables of the kernel. CTF has no types of variables, so plugins state them."""

from typing import Any

from volatility3.framework import interfaces


def pointer(kernel: interfaces.context.ModuleInterface, name: str, to: str) -> Any:
    """The variable ``name``, a pointer to the structure ``to``, or the head of a list of them."""
    offset = kernel.get_symbol(name).address
    return kernel.object("pointer", offset=offset, subtype=kernel.get_type(to))


def canonical(layer: Any, address: int) -> int:
    """The address as the kernel prints it: Volatility removes its sign."""
    return int(layer.canonicalize(address)) if hasattr(layer, "canonicalize") else address
