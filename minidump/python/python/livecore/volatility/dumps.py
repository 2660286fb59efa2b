"""The open dumps of a process. Volatility copies layers, which therefore refer to a dump by its path."""

import os
import threading

import livecore

_lock = threading.Lock()
_dumps: dict[str, "livecore.Dump"] = {}


def dump_of(path: str) -> "livecore.Dump":
    """Returns the dump ``path``, which stays open until the process ends."""
    with _lock:
        dump = _dumps.get(path)
        if dump is None:
            kernel = os.environ.get("LIVECORE_KERNEL") or None
            key = os.environ.get("LIVECORE_KEY") or None
            dump = _dumps[path] = livecore.open(path, kernel=kernel, key=key)
        return dump
