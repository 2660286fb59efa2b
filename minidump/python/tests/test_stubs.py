"""The type stubs are those of the native module."""

import subprocess
import sys


def test_stubs_agree_with_the_module():
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "livecore"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
