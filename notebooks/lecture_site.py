"""What the lectures' local web server has to tell: weather records and linked pages.

All of it is made up, and computed when it is asked for from the address and a seed
alone: the same address gives the same bytes, in any order and in any process.
"""

from __future__ import annotations

import datetime as dt
import html
import json
import math
import random

SEED = 20240102
FIRST_DAY, LAST_DAY = dt.date(2024, 1, 1), dt.date(2024, 12, 31)
PAGES = 500
STATION = "Lecture Hill"

_WORDS = ("thread process future result worker queue task pool lock wait event signal memory "
          "cache page socket buffer loop chunk core clock kernel pipe stack heap reader writer "
          "parser table column index record price storm cloud rain wind sun snow frost").split()


def _random(seed: int, *about: object) -> random.Random:
    """A generator of its own for each thing there is to tell."""
    return random.Random(" ".join(map(str, (seed, *about))))


def weather(day: dt.date, seed: int = SEED) -> dict[str, object]:
    """The record of one day: temperatures (°C) and wind (km/h) by the hour, rain (mm)."""
    season = 9.0 + 10.5 * math.sin(2 * math.pi * (day.timetuple().tm_yday - 110) / 366)
    # Neighbouring days share part of their chance: weather lasts longer than a day.
    near = [_random(seed, "weather", day + dt.timedelta(days=n)).gauss(0, 3.5)
            for n in (-1, 0, 1)]
    mean = season + (near[0] + 2 * near[1] + near[2]) / 2.5
    rng = _random(seed, "hours", day)
    hours = [{"hour": hour,
              "temperature": round(mean + 4 * math.sin(2 * math.pi * (hour - 9) / 24)
                                   + rng.gauss(0, 0.4), 1),
              "wind": round(rng.gammavariate(3, 4), 1)} for hour in range(24)]
    rain = round(rng.expovariate(1 / 6), 1) if rng.random() < 0.4 else 0.0
    return {"date": day.isoformat(), "station": STATION, "rain": rain, "hours": hours}


def links(number: int, seed: int = SEED) -> list[int]:
    """The pages that page `number` leads to.  From page 0 all can be reached."""
    rng = _random(seed, "links", number)
    below = [2 * number + 1, 2 * number + 2]
    return sorted({n for n in (*below, *rng.sample(range(PAGES), 3))
                   if n < PAGES and n != number})


def page(number: int, seed: int = SEED) -> str:
    """One page of the web site: a title, some text, and links to other pages."""
    rng = _random(seed, "page", number)

    def sentence() -> str:
        return " ".join(rng.choices(_WORDS, k=rng.randint(6, 14))).capitalize() + "."

    title = f"Page {number}: {' and '.join(rng.sample(_WORDS, 2))}"
    text = "\n".join(f"<p>{' '.join(sentence() for _ in range(rng.randint(3, 9)))}</p>"
                     for _ in range(rng.randint(2, 8)))
    further = "\n".join(f'<li><a href="/pages/{n}">Page {n}</a></li>'
                        for n in links(number, seed))
    return _document(title, f"{text}\n<ul>\n{further}\n</ul>")


def answer(path: str, seed: int = SEED) -> tuple[int, str, bytes]:
    """HTTP status, content type and body for an address such as "/weather/2024-03-01"."""
    match path.strip("/").split("/"):
        case [""]:
            return _html(200, _document("The lectures' web server", (
                f'<p><a href="/weather/{FIRST_DAY}">/weather/{FIRST_DAY}</a> to '
                f'<a href="/weather/{LAST_DAY}">{LAST_DAY}</a>: one JSON record a day.</p>'
                f'<p><a href="/pages/0">/pages/0</a> to {PAGES - 1}: pages with links.</p>'
                '<p><a href="/stats">/stats</a>: what was asked of this server.</p>')))
        case ["weather", day]:
            try:
                date = dt.date.fromisoformat(day)
            except ValueError:
                return _json(404, {"error": f"not a date like {FIRST_DAY}: {day}"})
            if FIRST_DAY <= date <= LAST_DAY:
                return _json(200, weather(date, seed))
            return _json(404, {"error": f"there are records from {FIRST_DAY} to {LAST_DAY} "
                                        f"only, none of {day}"})
        case ["pages", number] if number.isdecimal() and int(number) < PAGES:
            return _html(200, page(int(number), seed))
    return _html(404, _document("Not found", f"<p>There is no {html.escape(path)} here.</p>"))


def _document(title: str, body: str) -> str:
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{html.escape(title)}</title></head>\n<body><h1>{html.escape(title)}</h1>\n"
            f"{body}\n</body></html>\n")


def _html(status: int, text: str) -> tuple[int, str, bytes]:
    return status, "text/html; charset=utf-8", text.encode()


def _json(status: int, value: object) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()
