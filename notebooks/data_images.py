"""X-ray-like images for the lectures: of different sizes and modes, the same for everybody.

Each is drawn from noise and a few smooth shapes: a body, two lungs, ribs, a spine.  Nobody
was X-rayed.  As in a real collection the files do not agree on anything: some are plain
grey (mode L), some grey stored as colour (RGB), some have 16 bits a pixel (I;16).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import data_folder
import numpy as np
from PIL import Image

VERSION = 1
SEED = 20240102
MODES = ("L", "L", "RGB", "L", "I;16")      # in turn


@dataclass(frozen=True)
class Size:
    """How much to make: number of images, and the least and largest height in pixels."""

    images: int
    smallest: int
    largest: int


SIZES = {"small": Size(images=60, smallest=200, largest=600),
         "lecture": Size(images=300, smallest=300, largest=900)}


def make(root: Path, size: str, seed: int = SEED) -> list[Path]:
    """Make root/<size>/images and return the PNG files."""
    made_from = {"version": VERSION, "seed": seed, "modes": MODES, **asdict(SIZES[size])}

    def write(folder: Path) -> None:
        rng = np.random.default_rng(seed)
        for number in range(SIZES[size].images):
            mode = MODES[number % len(MODES)]
            height = rng.integers(SIZES[size].smallest, SIZES[size].largest, endpoint=True)
            width = int(height * rng.uniform(0.75, 1.25))
            # Saving is most of the work; the smallest compression is fast, and small enough.
            _as_image(draw(height, width, rng), mode).save(
                folder / f"xray_{number:04}.png", compress_level=1)

    return data_folder.complete(root / size / "images", made_from, write)


def draw(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A picture of brightness 0 to 1, float32, of the shape (height, width)."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    size, tilt, ribs = rng.uniform(0.85, 1.1), rng.uniform(-0.1, 0.1), rng.integers(6, 10)
    x = x + tilt * y
    body = _blob(x, y, 0, 0.25, 0.8 * size, 1.1)
    lungs = (_blob(x, y, -0.36 * size, 0, 0.26 * size, 0.6)
             + _blob(x, y, 0.36 * size, 0, 0.26 * size, 0.6))
    spine = np.exp(-(x / 0.07) ** 2)
    heart = _blob(x, y, 0.14 * size, 0.3, 0.22 * size, 0.25)
    arcs = np.cos(np.pi * ribs * (y - 0.35 * x**2 + rng.uniform(0, 1))) ** 8
    picture = body * (0.55 - 0.42 * lungs + 0.22 * spine + 0.2 * heart
                      + 0.16 * arcs * (lungs + 0.3))
    # Film grain; a table of noise that is drawn from at random costs less than new noise.
    grain = 0.02 * rng.standard_normal(256, dtype=np.float32)
    picture += grain[np.frombuffer(rng.bytes(picture.size), np.uint8).reshape(picture.shape)]
    return np.clip(picture * rng.uniform(0.8, 1.15), 0, 1)


def _blob(x: np.ndarray, y: np.ndarray, x0: float, y0: float, rx: float,
          ry: float) -> np.ndarray:
    """1 inside an ellipse, 0 outside, with a soft edge."""
    distance = ((x - x0) / rx) ** 2 + ((y - y0) / ry) ** 2
    return 1 / (1 + np.exp(np.clip(8 * (distance - 1), -30, 30)))


def _as_image(picture: np.ndarray, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.round(picture * 65535).astype(np.uint16))
    grey = Image.fromarray(np.round(picture * 255).astype(np.uint8))
    return grey.convert(mode)
