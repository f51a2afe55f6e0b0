"""The house sales and the texts of the lectures: deterministic, complete, as announced."""

from __future__ import annotations

import collections
import re
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="the lectures' data are made with NumPy")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "notebooks"))
import data_folder  # noqa: E402
import data_houses  # noqa: E402
import data_texts  # noqa: E402


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_houses.make(tmp_path_factory.mktemp("houses"), "small")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return data_texts.make(tmp_path_factory.mktemp("texts"), "small")


def error_of_a_linear_model(table: dict[str, np.ndarray], names: list[str]) -> float:
    """The standard error of a straight-line fit of the logarithms, on all rows."""
    design = np.column_stack([np.ones(len(table["price"])),
                              *(np.log(table[name] + 1) for name in names)])
    target = np.log(table["price"])
    weights, *_ = np.linalg.lstsq(design, target, rcond=None)
    return float(np.std(target - design @ weights))


def test_same_seed_gives_the_same_bytes_another_seed_others(tmp_path: Path) -> None:
    first = data_houses.make(tmp_path / "a", "small").read_bytes()
    assert data_houses.make(tmp_path / "b", "small").read_bytes() == first
    assert data_houses.make(tmp_path / "c", "small", seed=1).read_bytes() != first
    words = [path.read_bytes() for path in data_texts.make(tmp_path / "a", "small")]
    assert [path.read_bytes() for path in data_texts.make(tmp_path / "b", "small")] == words
    assert [path.read_bytes()
            for path in data_texts.make(tmp_path / "c", "small", seed=1)] != words


def test_houses_have_the_columns_and_rows_that_are_announced(houses: Path) -> None:
    table = data_houses.read(houses)
    assert tuple(table) == data_houses.COLUMNS
    assert {len(column) for column in table.values()} == {data_houses.ROWS["small"]}
    assert all(np.isfinite(column).all() for column in table.values())
    assert (table["price"] > 0).all()


def test_fee_gives_the_price_away_and_the_other_columns_do_not(houses: Path) -> None:
    table = data_houses.read(houses)
    fair = [name for name in table if name not in (data_houses.TARGET, data_houses.LEAK)]
    # What is left when the fee is known is its rounding; otherwise, what chance did.
    assert error_of_a_linear_model(table, ["fee"]) < data_houses.CHANCE / 10
    assert error_of_a_linear_model(table, fair) > 0.9 * data_houses.CHANCE


def test_texts_have_the_number_of_files_and_words_that_is_announced(texts: list[Path]) -> None:
    size = data_texts.SIZES["small"]
    assert len(texts) == size.texts
    for path in texts:
        assert len(re.findall(r"\w+", path.read_text(encoding="utf-8"))) == size.words


def test_texts_are_sentences(texts: list[Path]) -> None:
    lines = texts[0].read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert re.fullmatch(r"[A-Z][a-z]*,?( [a-z]+,?)* [a-z]+\.", line), line
    assert len(lines) > data_texts.SIZES["small"].words / (2 * data_texts.SENTENCE)


def test_each_text_uses_its_subject_more_than_the_others_do(texts: list[Path]) -> None:
    counts = [collections.Counter(re.findall(r"\w+", path.read_text(encoding="utf-8").lower()))
              for path in texts]
    for text, word in enumerate(data_texts.subjects("small")):
        others = max(count[word] for i, count in enumerate(counts) if i != text)
        assert counts[text][word] > 5 * others


@pytest.mark.parametrize("module", [data_houses, data_texts])
def test_unknown_size_is_a_value_error_that_names_the_sizes(
        module: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be one of \['lecture', 'small'\]"):
        module.make(tmp_path, "huge")  # type: ignore[attr-defined]
    assert not list(tmp_path.iterdir())


def test_complete_files_are_kept(tmp_path: Path) -> None:
    path = data_houses.make(tmp_path, "small")
    before = path.stat()
    assert data_houses.make(tmp_path, "small") == path
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_half_written_or_missing_files_are_made_anew(tmp_path: Path) -> None:
    path = data_houses.make(tmp_path, "small")
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert data_houses.make(tmp_path, "small").read_bytes() == whole
    path.unlink()
    assert data_houses.make(tmp_path, "small").read_bytes() == whole
    (path.parent / data_folder.STAMP).write_text("{", encoding="utf-8")
    assert data_houses.make(tmp_path, "small").read_bytes() == whole


def test_interrupted_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("not", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data_folder.complete(tmp_path / "data", {}, interrupted)
    assert not list(tmp_path.iterdir())
