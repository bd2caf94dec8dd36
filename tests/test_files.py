"""Files are whole or absent, and what cannot be written is said before any work is done."""

from pathlib import Path

import pytest

from convfold.errors import FileProblem
from convfold.files import append_line, atomic_path, output_folder, remove_leftovers, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_path(target) as beside:
        beside.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as beside:
            beside.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("write", [output_folder, lambda p: write_text(p, "x"), lambda p: append_line(p, "x")])
def test_a_place_below_a_file_is_refused(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileProblem, match=r"cannot write \(not a directory\).*Choose another place"):
        write(tmp_path / "file" / "below")


def test_lines_are_appended(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "two")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_what_a_killed_write_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    names = (".a-12.txt", ".b-7.json", ".a-x.txt", "a-12.txt", ".hidden")
    for name in names:
        (tmp_path / name).write_text("")
    remove_leftovers([tmp_path / "a.txt"])
    assert {path.name for path in tmp_path.iterdir()} == set(names) - {".a-12.txt"}
    remove_leftovers([tmp_path])
    assert {path.name for path in tmp_path.iterdir()} == set(names) - {".a-12.txt", ".b-7.json"}
