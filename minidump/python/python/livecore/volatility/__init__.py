"""FreeBSD kernel dumps in Volatility 3.

Volatility 3 (https://github.com/volatilityfoundation/volatility3) loads layers and plugins from a directory.
``python3 -m livecore.volatility`` prints it::

    vol -p "$(python3 -m livecore.volatility)" -f vmcore.0.zst livecore.pslist

Volatility then opens every dump that ``livecore.open`` opens, and makes the symbols of the kernel when it
first needs them. The kernel file is searched as ``livecore.open`` does; the environment variable
LIVECORE_KERNEL names another one, and LIVECORE_KEY the private key of an encrypted dump.

Plugins for FreeBSD that others wrote run on these layers; see docs/volatility.md in the sources of livecore.
"""

from pathlib import Path

#: The directory for Volatility's option ``-p``.
PLUGINS = Path(__file__).resolve().parent / "plugins"
