"""``python3 -m livecore.volatility`` prints the directory for Volatility's option ``-p``."""

from . import PLUGINS

print(PLUGINS)
