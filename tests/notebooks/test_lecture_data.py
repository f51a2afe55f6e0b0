"""The lectures' data: deterministic, as announced, and whole or made again."""
import json
import os
import shutil
import subprocess
import sys

import pytest
from testkit import GUARD

np = pytest.importorskip("numpy", reason="the lectures' data are made with NumPy")
Image = pytest.importorskip("PIL.Image", reason="the lectures' images are made with Pillow")

import data_folder  # noqa: E402
import data_images  # noqa: E402
import data_stocks  # noqa: E402
import lecture_data  # noqa: E402


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A size of data that is made in no time."""
    monkeypatch.setitem(data_images.SIZES, "tiny", data_images.Size(10, 40, 90))
    monkeypatch.setitem(data_stocks.SIZES, "tiny", data_stocks.Size(symbols=4, days=3))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_same_seed_gives_the_same_bytes_another_seed_others(tmp_path):
    def stocks(*args):
        minutely, daily = data_stocks.make(*args)
        return minutely + daily

    for make in (data_images.make, stocks):
        first = [path.read_bytes() for path in make(tmp_path / "a", "tiny")]
        assert [path.read_bytes() for path in make(tmp_path / "b", "tiny")] == first
        assert [path.read_bytes() for path in make(tmp_path / "c", "tiny", 7)] != first


def test_stocks_are_bars_of_every_trading_minute(tmp_path):
    minutely, _ = data_stocks.make(tmp_path, "tiny")
    assert [path.stem for path in minutely] == data_stocks.SYMBOLS[:4]
    for path in minutely:
        bars = lines(path)
        assert len(bars) == 3 * data_stocks.MINUTES
        assert [bar["timestamp"] for bar in bars] == sorted({bar["timestamp"] for bar in bars})
        for bar in bars:
            assert bar["low"] <= min(bar["open"], bar["close"])
            assert bar["high"] >= max(bar["open"], bar["close"]) > 0 < bar["volume"]


def test_a_day_sums_up_its_minutes(tmp_path):
    for minutely, daily in zip(*data_stocks.make(tmp_path, "tiny"), strict=True):
        bars, days = lines(minutely), lines(daily)
        assert minutely.name == daily.name and len(days) == 3
        for number, day in enumerate(days):
            within = bars[number * data_stocks.MINUTES:(number + 1) * data_stocks.MINUTES]
            assert {bar["timestamp"][:10] for bar in within} == {day["date"]}
            assert day["open"] == within[0]["open"] and day["close"] == within[-1]["close"]
            assert day["high"] == max(bar["high"] for bar in within)
            assert day["low"] == min(bar["low"] for bar in within)
            assert day["volume"] == sum(bar["volume"] for bar in within)


def test_closest_pair_moves_together_most(tmp_path):
    minutely, _ = data_stocks.make(tmp_path, "small")
    returns = {path.stem: np.diff(np.log([bar["close"] for bar in lines(path)]))
               for path in minutely}
    names = sorted(returns)
    pairs = {(a, b): np.corrcoef(returns[a], returns[b])[0, 1]
             for a in names for b in names if a < b}
    assert max(pairs, key=pairs.get) == data_stocks.closest_pair("small")


def test_images_have_several_sizes_and_modes_and_use_their_range(tmp_path):
    images = [Image.open(path) for path in data_images.make(tmp_path, "tiny")]
    assert [image.mode for image in images] == [*data_images.MODES] * 2
    assert len({image.size for image in images}) > 5
    assert all(40 <= image.height <= 90 for image in images)
    for image in images:
        pixels = np.asarray(image)
        full = 65535 if image.mode == "I;16" else 255
        assert pixels.min() < 0.05 * full and 0.6 * full < pixels.max() <= full


# --- whole, or made again ---------------------------------------------------------------

def write_two(folder):
    (folder / "one").write_text("1", encoding="utf-8")
    (folder / "two").write_text("22", encoding="utf-8")


def test_what_is_whole_is_kept_and_nothing_is_said(tmp_path, capsys):
    target = tmp_path / "deep" / "data"
    first = data_folder.complete(target, {"version": (1,)}, write_two)
    before = [path.stat().st_ino for path in first]
    assert capsys.readouterr() == (f"making {target}\n", "")
    again = data_folder.complete(target, {"version": (1,)}, lambda _: pytest.fail("made again"))
    assert again == first == [target / "one", target / "two"]
    assert [path.stat().st_ino for path in again] == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("harm, said", [
    (lambda folder: (folder / "two").write_text("2"), "two has 1 bytes instead of 2"),
    (lambda folder: (folder / "one").unlink(), "one is missing"),
    (lambda folder: (folder / data_folder.STAMP).unlink(), "stamp.json is missing"),
    (lambda folder: (folder / data_folder.STAMP).write_text("{"), "stamp.json is damaged"),
    (lambda folder: (folder / data_folder.STAMP).write_text("[]"), "stamp.json is damaged"),
], ids=["half-written", "deleted", "no stamp", "half a stamp", "not a stamp"])
def test_what_is_not_whole_is_made_again_and_said_so(tmp_path, capsys, harm, said):
    target = tmp_path / "data"
    data_folder.complete(target, {}, write_two)
    harm(target)
    capsys.readouterr()
    data_folder.complete(target, {}, write_two)
    assert (target / "one").read_text() == "1" and (target / "two").read_text() == "22"
    assert capsys.readouterr() == ("", f"{target}: {said}; making it again\n")


def test_data_of_another_version_are_made_again(tmp_path, capsys):
    data_folder.complete(tmp_path / "data", {"version": 1}, write_two)
    data_folder.complete(tmp_path / "data", {"version": 2},
                         lambda folder: (folder / "three").write_text("3"))
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"stamp.json", "three"}
    assert "another version" in capsys.readouterr().err


def test_another_process_may_have_been_quicker(tmp_path, monkeypatch):
    def write(folder):
        write_two(folder)
        data_folder.complete(tmp_path / "data", {}, write_two)      # as the other one does

    pids = iter([1, 2])
    monkeypatch.setattr(data_folder.os, "getpid", lambda: next(pids))
    found = data_folder.complete(tmp_path / "data", {}, write)
    assert [path.read_text() for path in found] == ["1", "22"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_quicker_one_may_come_between_removing_and_moving(tmp_path, monkeypatch):
    target, other = tmp_path / "data", tmp_path / "other"
    data_folder.complete(target, {"version": 1}, write_two)
    data_folder.complete(other, {"version": 2}, write_two)
    remove = shutil.rmtree

    def rmtree(path, **options):
        remove(path, **options)
        if path == target:
            shutil.copytree(other, target)

    monkeypatch.setattr(data_folder.shutil, "rmtree", rmtree)
    found = data_folder.complete(target, {"version": 2}, write_two)
    assert [path.read_text() for path in found] == ["1", "22"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "other"]


def test_a_folder_that_cannot_be_written_gives_a_sentence_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(lecture_data.DataError) as caught:
        data_folder.complete(tmp_path / "file" / "data", {}, write_two)
    text = str(caught.value)
    assert str(tmp_path / "file" / "data") in text and "LECTURE_DATA" in text
    assert "\n" not in text


def test_unknown_size_names_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"\['small', 'lecture'\], not 'huge'"):
        lecture_data.make("huge", tmp_path)


def command(*arguments, **variables):
    return subprocess.run([sys.executable, lecture_data.__file__, *map(str, arguments)],
                          env={**os.environ, **variables}, text=True, timeout=4 * GUARD,
                          capture_output=True)


def test_command_makes_all_kinds_where_the_variable_says(tmp_path):
    done = command("--size", "small", LECTURE_DATA=str(tmp_path / "new"))
    assert done.returncode == 0, done.stderr
    for kind in ("stocks", "daily", "images", "houses", "texts"):
        assert f"{kind}: " in done.stdout
        assert list((tmp_path / "new" / "small" / kind).iterdir())


def test_command_that_cannot_write_says_what_to_do_and_fails(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    done = command("--root", tmp_path / "file")
    assert done.returncode == 1 and done.stdout == ""
    assert "cannot be written" in done.stderr and len(done.stderr.splitlines()) == 1
