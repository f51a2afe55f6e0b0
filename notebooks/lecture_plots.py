"""Pictures that several lectures draw: who did what and when, and a clock with its time.

Every function draws into axes that it is given; the notebook decides the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.projections.polar import PolarAxes

HOUR = 60.0     # minutes of one turn of the clock's hand


def lanes(axes: Axes, rows: Sequence[tuple[str, str, float, float]], *,
          colours: Sequence[str] | None = None) -> None:
    """Draw a bar for each (lane, label, begin, end); lanes stand in order of appearance.

    begin and end are in the unit of the x axis.  colours: one for each row, or none.
    """
    places = {lane: place for place, lane in enumerate(dict.fromkeys(row[0] for row in rows))}
    whole = max(row[3] for row in rows) - min(row[2] for row in rows)
    for number, (lane, label, begin, end) in enumerate(rows):
        axes.barh(places[lane], end - begin, left=begin, height=0.8, edgecolor="white",
                  linewidth=0.5, color=colours[number] if colours else f"C{number % 10}")
        # A label that is wider than its bar would run into the next one.
        if end - begin > 0.011 * whole * (len(label) + 1):
            axes.text((begin + end) / 2, places[lane], label, ha="center", va="center",
                      color="white", fontsize=8)
    axes.set(yticks=range(len(places)), yticklabels=list(places), xlim=0)
    axes.set_ylim(len(places) - 0.5, -0.5)


def clock(axes: PolarAxes, minutes: float, title: str, *, colour: str = "C0") -> None:
    """Draw a dial with the way of its minute hand from 12 o'clock, a turn an hour."""
    turns = np.linspace(0, minutes / HOUR, max(2, int(4 * minutes)))
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    # Each further hour a little outside the one before, so that hours can be counted.
    radius = 1 + 0.35 * np.floor(turns + 1e-9) + 0.35 * (turns % 1)
    axes.plot(2 * np.pi * turns, radius, color=colour, linewidth=4, solid_capstyle="butt")
    axes.plot([2 * np.pi * turns[-1]] * 2, [0, radius[-1]], color="0.3", linewidth=2)
    axes.plot([0], [0], "o", color="0.3")
    axes.set_ylim(0, max(1.8, radius[-1] + 0.2))
    axes.set_xticks(np.linspace(0, 2 * np.pi, 12, endpoint=False), [
        str(minute or 60) if minute % 15 == 0 else "" for minute in range(0, 60, 5)])
    axes.tick_params(labelsize=8, pad=-2)
    axes.set_yticks([])
    axes.grid(alpha=0.25)
    axes.set_title(f"{title}\n{minutes:.0f} minutes" if minutes >= 10 else
                   f"{title}\n{minutes:.1f} minutes", fontsize=10)
