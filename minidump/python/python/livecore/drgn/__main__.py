"""``python3 -m livecore.drgn DUMP [SCRIPT [ARGUMENT...]]``: drgn on a dump; ``livecore drgn`` starts it."""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any, Optional, Sequence

import drgn
import drgn.cli

import livecore

from . import helpers, program


def main(arguments: Optional[Sequence[str]] = None) -> Optional[str]:
    parser = argparse.ArgumentParser(prog="python3 -m livecore.drgn", description=__doc__)
    parser.add_argument("--kernel", help="kernel ELF file [default: near DUMP or in /boot]")
    parser.add_argument("--force-kernel", action="store_true", help="use a kernel that does not match the dump")
    parser.add_argument("--key", help="PEM file of the private key for an encrypted dump")
    parser.add_argument("dump", metavar="DUMP")
    parser.add_argument("script", metavar="SCRIPT", nargs=argparse.REMAINDER)
    given = parser.parse_args(arguments)
    try:
        dump = livecore.open(
            given.dump, kernel=given.kernel, key=given.key, force_kernel=given.force_kernel
        )
        prog = program(dump)
    except (livecore.Error, OSError) as error:
        return f"livecore.drgn: {error}"
    drgn.set_default_prog(prog)
    if given.script:
        sys.argv = given.script
        sys.path.insert(0, str(Path(given.script[0]).parent))
        runpy.run_path(given.script[0], init_globals=_names({"prog": prog}), run_name="__main__")
    else:
        banner = f"{dump!r}\nFreeBSD's helpers are imported; help(livecore.drgn.helpers) lists them."
        drgn.cli.run_interactive(prog, lambda _: banner, _names)
    return None


def _names(names: dict[str, Any]) -> dict[str, Any]:
    """``names``, and what a script or a session uses."""
    # drgn's own session has helpers for Linux.
    own = {name: getattr(helpers, name) for name in helpers.__all__}
    return {**names, **own, "livecore": livecore}


if __name__ == "__main__":
    sys.exit(main())
