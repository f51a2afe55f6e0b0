"""What the notebooks measure, check and show with."""
import concurrent.futures

import pytest

pytest.importorskip("IPython", reason="the lectures' tools show their tables with IPython")

import lecture_tools
from lecturekit import LECTURES, NOTEBOOKS


@pytest.fixture
def lab():
    return lecture_tools.Lab(concurrent.futures)


def test_compare_measures_the_loop_and_every_engine(lab, capsys):
    row = lab.compare("a label", lambda futures: futures.Future is not None, lambda: True,
                      ideal=2, note="a note", enough=0)
    assert set(row.wall) == {"sequential", "concurrent.futures", "cfutures"} == set(row.busy)
    assert row.speedup("cfutures") == row.wall["sequential"] / row.wall["cfutures"]
    assert row.speedup("sequential") == 1 and row.speedup("another") is None
    lab.closing_table()
    assert "a label" in capsys.readouterr().out


def test_compare_says_which_engine_answers_otherwise(lab):
    with pytest.raises(AssertionError, match="a label: cfutures and sequential disagree"):
        lab.compare("a label", lambda futures: futures.__name__, lambda: "concurrent.futures")


def test_compare_takes_another_idea_of_equal(lab):
    row = lab.compare("about", lambda futures: 1.0, lambda: 1.01, enough=0, show=False,
                      equal=lambda a, b: abs(a - b) < 0.1)
    assert lab.measured == {"about": row}


def test_an_error_in_what_is_measured_is_raised(lab):
    with pytest.raises(ZeroDivisionError):
        lab.compare("wrong", lambda futures: 1 / 0)


@pytest.mark.parametrize("mine, said", [
    ({}, "Nothing to check yet"), ({1: "a", 2: "b"}, "Right!"),
    ({1: "a"}, "no entry for 2"), ({1: "a", 2: "x"}, "the entry for 2 is 'x', not 'b'"),
    ({1: "a", 2: "b", 3: "c"}, "3 should not be there")])
def test_check_says_what_is_wrong_with_an_answer(capsys, mine, said):
    lecture_tools.check(mine, {1: "a", 2: "b"})
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("value, text", [
    (None, "-"), (2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 µs")])
def test_seconds_are_written_in_the_unit_that_suits_them(value, text):
    assert lecture_tools.seconds(value) == text


def test_each_solution_is_shown_and_run_by_a_lecture():
    lectures = [path.read_text(encoding="utf-8") for path in LECTURES]
    solutions = [path.stem for path in (NOTEBOOKS / "solutions").glob("*.py")]
    assert solutions
    for name in solutions:
        assert any(f'show_solution(\\"{name}\\")' in text and f"{name}.solve(" in text
                   for text in lectures), name
