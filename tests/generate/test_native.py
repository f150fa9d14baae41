"""Which reader is taken, what is said where the native one cannot be had, and that its source compiles without a warning."""

from __future__ import annotations

import importlib.util
import select
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from slobench.clock import MonotonicClock
from slobench.errors import UsageError
from slobench.generate import native
from slobench.generate.exchange import ReadCounters

ROOT = Path(__file__).parent.parent.parent
built = pytest.mark.skipif(native.find()[0] is None, reason=f"no native module: {native.find()[1]}")
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None or not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists(),
    reason="no C compiler, or no headers of Python",
)


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    made = select.epoll()
    yield made
    made.close()


def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_native", ROOT / "scripts" / "build_native.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_twin_can_always_be_had(epoll: select.epoll) -> None:
    """`python` is the twin, also where the native module was built."""
    assert native.make_reader("python", epoll, MonotonicClock(), ReadCounters()).kind == "python"


@built
def test_auto_takes_the_native_one_where_it_was_built(epoll: select.epoll) -> None:
    """Both names give it."""
    kinds = [native.make_reader(choice, epoll, MonotonicClock(), ReadCounters()).kind for choice in ("auto", "native")]
    assert kinds == ["native", "native"]


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (ModuleNotFoundError("no"), "not built"),
        (ImportError("undefined symbol"), "undefined symbol"),
        (SimpleNamespace(VERSION=0), "other sources"),
    ],
)
def test_without_it_auto_goes_on_and_native_is_refused(
    monkeypatch: pytest.MonkeyPatch, epoll: select.epoll, found: object, why: str
) -> None:
    """Not built, not loadable, built from other sources: the twin, or one clear error."""

    def load(_name: str) -> object:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(native.importlib, "import_module", load)
    assert native.make_reader("auto", epoll, MonotonicClock(), ReadCounters()).kind == "python"
    with pytest.raises(UsageError, match=why):
        native.make_reader("native", epoll, MonotonicClock(), ReadCounters())


@needs_compiler
def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    """With -Wall -Wextra -Werror, into a module that loads and has the version that the package expects."""
    build = builder()
    path = build.build(ROOT / build.SOURCE, tmp_path, ["-Werror"])
    spec = importlib.util.spec_from_file_location("slobench.generate._receive", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert native._VERSION == module.VERSION


def test_a_build_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And leaves nothing behind."""
    build = builder()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(RuntimeError, match="no C compiler" if sys.platform == "linux" else "Linux"):
        build.build(ROOT / build.SOURCE, tmp_path)
    assert not list(tmp_path.iterdir())


@needs_compiler
def test_a_source_that_does_not_compile_is_told(tmp_path: Path) -> None:
    """The compiler's own words are in the error, and no half-made file is left."""
    build = builder()
    (tmp_path / "wrong.c").write_text("int main(void) { return nothing; }\n")
    with pytest.raises(RuntimeError, match="nothing"):
        build.build(tmp_path / "wrong.c", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.c"]


@built
def test_the_native_reader_refuses_what_is_no_stream(epoll: select.epoll) -> None:
    """Wrong arguments are errors of Python, not crashes."""
    reader = native.make_reader("native", epoll, MonotonicClock(), ReadCounters())
    good = SimpleNamespace(raw_prefix=b"p", between=None, raw_suffix=b"s", channel=0)
    sink = SimpleNamespace(packed=bytearray(), add=None)
    with select.epoll() as other:
        for shape in (SimpleNamespace(), SimpleNamespace(raw_prefix=None, between=None, raw_suffix=b"", channel=0)):
            with pytest.raises((AttributeError, TypeError)):
                reader.begin(other, 0, shape, False, sink)  # type: ignore[arg-type]
            with pytest.raises((AttributeError, TypeError)):
                reader.open(other, 0, shape, 0, sink, True)  # type: ignore[arg-type]
        parts = dict.fromkeys(("before_id", "before_created", "before_text"), b"x")
        for head in (None, "text"):
            opening = SimpleNamespace(head=head, **parts, **vars(good))
            with pytest.raises(TypeError):
                reader.open(other, 0, opening, 0, sink, True)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            reader.begin(other, 0, good, False, object())  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            reader.begin(object(), 0, good, False, sink)  # type: ignore[arg-type]
        reader.begin(other, 0, good, False, sink)  # type: ignore[arg-type]
        for fd in (-1, 10**6, other.fileno() + 1):
            with pytest.raises(KeyError):
                reader.end(fd)
        assert reader.end(other.fileno()).reads == 0


def test_forced_python_imports_no_native_module() -> None:
    """--set talk.receiver=python on a machine with the module: it is not even loaded."""
    code = (
        "import select, sys; from slobench.clock import MonotonicClock as C;"
        "from slobench.generate.exchange import ReadCounters as R; from slobench.generate.native import make_reader as m;"
        "print(m('python', select.epoll(), C(), R()).kind, 'slobench.generate._receive' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["python", "False"]
