"""Damaged and hostile dumps are exceptions, never an abort or a panic."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import livecore
from conftest import ROOT, program

EXERCISE = Path(__file__).with_name("exercise.py")


def exercise(kernel, paths):
    """Calls every method in another process, which must survive."""
    done = subprocess.run(
        [sys.executable, EXERCISE, kernel, *paths], capture_output=True, text=True
    )
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"status {done.returncode}: {last}\n{done.stderr}"
    return last[0]


def test_panic_is_an_ordinary_exception():
    with pytest.raises(livecore.PanicError, match="bug in livecore: index out of bounds") as error:
        livecore._livecore._panic("index out of bounds")
    assert isinstance(error.value, Exception)
    assert isinstance(error.value, livecore.Error)


def test_every_recipe_is_read_or_refused(tmp_path):
    recipes = sorted((ROOT / "testdata/dumps").glob("*.dump"))
    paths = []
    for recipe in recipes:
        out = tmp_path / recipe.stem
        done = subprocess.run([program("MKDUMP"), recipe, "-o", out], capture_output=True)
        assert done.returncode == 0, done.stderr
        paths.append(out)
    assert len(paths) > 100
    line = exercise("-", paths)
    returned, raised = (int(word) for word in line.split() if word.isdigit())
    assert returned > 1000 and raised > 1000


@pytest.mark.parametrize("name", ["tiny", "arm64"])
def test_random_damage_is_read_or_refused(machine, tmp_path, name):
    seed = int(os.environ.get("LIVECORE_SEED", random.randrange(1 << 32)))
    print(f"LIVECORE_SEED={seed}")
    made, rng = machine(name), random.Random(seed)
    plain = tmp_path / "plain"
    with made.open() as dump:
        dump.convert(plain, codec="none", container="saved")
    whole, sealed, paths = plain.read_bytes(), made.path.read_bytes(), []
    for number in range(12):
        data = bytearray(whole if number % 2 else sealed)
        # The headers are hit as often as the rest.
        for _ in range(rng.randrange(1, 200)):
            end = rng.choice((4096, 1 << 17, len(data)))
            data[rng.randrange(min(end, len(data)))] = rng.randrange(256)
        if rng.randrange(4) == 0:
            del data[rng.randrange(len(data)) :]
        path = tmp_path / f"damaged.{number}"
        path.write_bytes(data)
        paths.append(path)
    exercise(made.kernel, paths)


def test_errors_have_region_offset_found_and_expected(recipe):
    with pytest.raises(livecore.BrokenError) as error:
        livecore.open(recipe("bitmapsize-near-2-32"))
    broken = error.value
    assert broken.region and broken.offset is not None and broken.found and broken.expected
    assert f"{broken.offset:#x}" in str(broken) and broken.found in str(broken)
    assert broken.address is None
