"""Plugins of the package livecore: processes, messages and modules of FreeBSD's kernel."""

# Volatility imports the plugins, and finds the layers and symbols by their classes.
from livecore.volatility import layers, symbols

__all__ = ["layers", "symbols"]
