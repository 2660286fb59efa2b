"""The type stubs are those of the native module."""

import subprocess
import sys
from pathlib import Path

STUBTEST = [sys.executable, "-m", "mypy.stubtest"]
CONFIGURATION = Path(__file__).resolve().parents[1] / "pyproject.toml"


def test_stubs_agree_with_the_module(tmp_path):
    # mypy does not know the classes of Volatility, which these are derived from.
    allowed = tmp_path / "allowed"
    allowed.write_text(r"livecore\.volatility\..*" + "\n")
    done = subprocess.run(
        [*STUBTEST, "--mypy-config-file", CONFIGURATION, "--allowlist", allowed, "livecore"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
