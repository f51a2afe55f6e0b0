"""Texts to count words in, for the lecture on threads and processes: all words made up.

One file a text.  Words come as often as in real texts: the n-th most frequent one about
1/n times as often as the first.  Each text has a subject besides, a word of its own that it
uses far more than the others do (`subjects` knows them).
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path

import data_folder
import numpy as np

# Raise it when the files would come out different: old ones are then made anew.
VERSION = 1
SEED = 20240611
VOCABULARY = 6000           # words
SUBJECT = 0.02              # the share of its own word in a text
SENTENCE = 14               # words a sentence, on average
SYLLABLES = [first + second for first, second in
             itertools.product("b d f g k l m n p r s t v z".split(), "aeiou")]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Size:
    """How much to make: number of texts, and words of each."""

    texts: int
    words: int


SIZES = {"small": Size(texts=12, words=50_000), "lecture": Size(texts=24, words=200_000)}


def make(root: Path | str | None = None, size: str = "small", seed: int = SEED) -> list[Path]:
    """Make the texts of one size in root (default: notebooks/data), return their paths.

    They are UTF-8: a line a sentence, with a capital first letter, commas and a full stop.
    Texts that are there, complete and of the same version, size and seed, are kept.
    Raises ValueError for a size that SIZES does not have.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {sorted(SIZES)}, not {size!r}")
    base = Path(root) if root is not None else HERE / "data"
    made_from = {"version": VERSION, "seed": seed, **asdict(SIZES[size])}
    return data_folder.complete(base / size / "texts", made_from,
                                lambda folder: _write(folder, SIZES[size], seed))


def subjects(size: str = "small", seed: int = SEED) -> list[str]:
    """The word that each text is about, in the order of make()'s paths."""
    rng = np.random.default_rng(seed)
    vocabulary = _vocabulary(rng)
    return [vocabulary[i] for i in _subjects(SIZES[size].texts, rng)]


def _vocabulary(rng: np.random.Generator) -> list[str]:
    """The words, the most frequent first; frequent ones are short.  The first draw."""
    pairs = ["".join(word) for word in itertools.product(SYLLABLES, repeat=2)]
    triples = ["".join(word) for word in itertools.product(SYLLABLES[::3], repeat=3)]
    short = [str(word) for word in rng.permutation(SYLLABLES)[:20]]
    middle = [str(word) for word in rng.permutation(pairs)[:VOCABULARY // 3]]
    rest = VOCABULARY - len(short) - len(middle)
    return short + middle + [str(word) for word in rng.permutation(triples)[:rest]]


def _subjects(texts: int, rng: np.random.Generator) -> list[int]:
    """Each text's own word, as a number in the vocabulary; a rare one.  The second draw."""
    rare = np.arange(500, VOCABULARY)
    return [int(word) for word in rng.choice(rare, texts, replace=False)]


def _write(folder: Path, size: Size, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vocabulary = _vocabulary(rng)
    subject = _subjects(size.texts, rng)
    # Each word in each place it can stand, with what follows it; see _forms.
    forms = np.array([vocabulary, [f"{word}," for word in vocabulary],
                      [word.capitalize() for word in vocabulary],
                      [f"{word}." for word in vocabulary]], dtype=object)
    forms += np.array([[" "], [" "], [" "], ["\n"]], dtype=object)
    weight = np.cumsum(1 / (np.arange(VOCABULARY) + 2.7))
    for number in range(size.texts):
        words = np.searchsorted(weight, rng.uniform(0, weight[-1], size.words))
        words = np.minimum(words, VOCABULARY - 1)       # rounding, at the upper end
        words[rng.random(size.words) < SUBJECT] = subject[number]
        text = "".join(forms[_forms(size.words, rng), words].tolist())
        (folder / f"text{number:02}.txt").write_text(text, encoding="utf-8", newline="\n")


def _forms(words: int, rng: np.random.Generator) -> np.ndarray:
    """For each word: 0 in a sentence, 1 before a comma, 2 first, 3 last of its sentence."""
    form = (rng.random(words) < 0.08).astype(int)
    lengths = rng.poisson(SENTENCE - 3, words) + 3
    ends = np.cumsum(lengths) - 1
    ends = ends[ends < words - 3]       # the last sentence is not one word, either
    form[ends] = form[-1] = 3
    form[ends + 1] = form[0] = 2
    return form
