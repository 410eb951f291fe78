"""`scripts.shape` counts right, on a made-up package."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from types import ModuleType

from scripts.call_recorder import CallRecorder, Crossed
from scripts.shape import Shape, code_lines, noqa_rules, shape_of
from scripts.source_tree import SourceTree

FIRST = '''\
"""What the module is for.

On three lines.
"""

import json  # noqa: F401


class Report:
    """A report."""

    text: str = """
of three
lines"""

    def _called_by_one(self) -> str:
        # Why it is so.
        return self._called_twice() + self._called_twice()

    def _called_twice(self) -> str:
        return self.text

    def show(self) -> None:
        print(self._called_by_one())  # noqa: T201, ANN401 - it prints
'''
SECOND = """\
def _given_away():
    pass

class Report:
    when = _given_away
"""


HERE = """\
def outer(there):
    inner()
    there.elsewhere()
    inner()

def inner():
    return [n for n in range(3)]

def not_called():
    pass
"""


def package(folder: Path) -> SourceTree:
    for name, text in {
        "one/report.py": FIRST,
        "two/report.py": SECOND,
        "one/__init__.py": "",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    return SourceTree(folder)


def test_the_shape_of_a_package_is_counted(tmp_path: Path) -> None:
    assert shape_of(package(tmp_path / "made_up")) == Shape(
        files=3,
        code_lines=15,
        functions=4,
        private_functions=3,
        called_once=1,
        classes={"Report": ["made_up.one.report", "made_up.two.report"]},
        file_names={"report.py": ["made_up.one.report", "made_up.two.report"]},
    )


def test_blank_lines_comments_and_docstrings_are_no_code() -> None:
    assert code_lines(FIRST) == 11
    assert code_lines("\n# Why.\n") == 0


def test_each_rule_that_a_comment_switches_off_counts() -> None:
    assert noqa_rules([FIRST, 'text = "# noqa: S105"\n']) == {"F401": 1, "T201": 1, "ANN401": 1}


def module_at(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_functions_files_and_changes_of_file_are_counted_on_every_thread(tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text("def elsewhere():\n    pass\n")
    (tmp_path / "here.py").write_text(HERE)
    here, there = module_at(tmp_path / "here.py"), module_at(tmp_path / "there.py")
    recorder = CallRecorder(tmp_path)

    with recorder.watching():
        here.not_called()
        recorder.is_on = True
        thread = threading.Thread(target=here.outer, args=(there,))
        thread.start()
        thread.join()
        recorder.is_on = False
        here.not_called()

    assert recorder.crossed() == Crossed(functions=3, files=2, changes_of_file=2)
