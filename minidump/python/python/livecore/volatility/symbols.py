"""The symbols of the kernel of a dump, made from its kernel file when Volatility needs them."""

import hashlib
from pathlib import Path
from typing import Optional

from volatility3.framework import constants, interfaces
from volatility3.framework.configuration import requirements
from volatility3.framework.symbols import intermed

import livecore

from .layers import LivecoreMemory, _Kernel

_join = interfaces.configuration.path_join


class LivecoreSymbols(intermed.IntermediateSymbolTable):
    """The symbols of a FreeBSD kernel."""


def _symbol_class() -> str:
    """The class of symbol tables: that of the plugins for FreeBSD, if they are installed."""
    try:
        from volatility3.framework.symbols.freebsd import FreebsdKernelIntermedSymbols as Found
    except ImportError:
        return f"{__name__}.{LivecoreSymbols.__name__}"
    return f"{Found.__module__}.{Found.__name__}"


def symbols_of(dump: "livecore.Dump") -> Path:
    """Returns the file with the symbols of the dump's kernel, in Volatility's cache."""
    kernel = dump.kernel
    if kernel is None:
        raise livecore.KernelError("kernel of the dump not found; name it in LIVECORE_KERNEL")
    files = [kernel, dump.debug_file or kernel]
    status = [(str(file.resolve()), file.stat()) for file in files]
    parts = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in status]
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    cache = Path(constants.CACHE_PATH)
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"livecore_{digest}.json"
    if not path.exists():
        try:
            livecore.isf(kernel, path)
        except FileExistsError:
            # Another process has made it.
            pass
    return path


class LivecoreSymbolFinder(interfaces.automagic.AutomagicInterface):
    """Finds the symbols for layers of dumps."""

    # After the layers, and before automagic that searches memory for the symbols of other systems.
    priority = 20
    exclusion_list = ["linux", "mac", "windows"]

    def __call__(
        self,
        context: interfaces.context.ContextInterface,
        config_path: str,
        requirement: interfaces.configuration.RequirementInterface,
        progress_callback: constants.ProgressCallback = None,
    ) -> None:
        found = self.find_requirements(
            context,
            config_path,
            requirement,
            (requirements.TranslationLayerRequirement, requirements.SymbolTableRequirement),
            shortcut=False,
        )
        parent = interfaces.configuration.parent_path
        for path, wanted in found:
            if not isinstance(wanted, requirements.SymbolTableRequirement):
                continue
            if not wanted.unsatisfied(context, parent(path)):
                continue
            for layer_path, layer in found:
                if (
                    isinstance(layer, requirements.TranslationLayerRequirement)
                    and parent(layer_path) == parent(path)
                    and self._add(context, parent(path), wanted, context.config.get(layer_path, None))
                ):
                    break

    @staticmethod
    def _add(
        context: interfaces.context.ContextInterface,
        config_path: str,
        requirement: "requirements.SymbolTableRequirement",
        layer_name: Optional[str],
    ) -> bool:
        layer = context.layers[layer_name] if layer_name else None
        if not isinstance(layer, _Kernel):
            return False
        memory = context.layers[layer.config["memory_layer"]]
        assert isinstance(memory, LivecoreMemory)
        path = symbols_of(memory.dump)
        at = _join(config_path, requirement.name)
        context.config[_join(at, "class")] = _symbol_class()
        context.config[_join(at, "isf_url")] = path.as_uri()
        context.config[_join(at, "symbol_mask")] = layer.address_mask
        requirement.construct(context, config_path)
        return True
