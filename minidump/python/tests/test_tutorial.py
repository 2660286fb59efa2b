"""`help(livecore)` is a tutorial, and its examples are right."""

import doctest
import inspect
import pydoc
import shutil

import livecore


def test_tutorial_runs(tiny, tmp_path, monkeypatch):
    shutil.copy(tiny.path, tmp_path / "vmcore.0.zst")
    shutil.copy(tiny.kernel, tmp_path / "kernel")
    monkeypatch.chdir(tmp_path)
    examples = {"open": open}
    result = doctest.testmod(livecore, extraglobs=examples, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 30 and result.failed == 0


def test_help_has_everything():
    text = pydoc.render_doc(livecore, renderer=pydoc.plaintext)
    for name in livecore.__all__:
        assert name in text


def test_everything_is_documented():
    for name in livecore.__all__:
        thing = getattr(livecore, name)
        assert thing.__module__ == "livecore" or not inspect.isclass(thing), name
        assert inspect.getdoc(thing), name
        if not inspect.isclass(thing) or issubclass(thing, Exception):
            continue
        for member in vars(thing):
            if not member.startswith("_"):
                assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"
