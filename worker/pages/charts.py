"""Charts as inline SVG. Each has a name for those who do not see it, and stands beside a table of its numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from unicodedata import east_asian_width

from worker.pages.frame import between, shown

COLOURS = ("#2e6cdf", "#d9822b", "#5a6472")  # of series, also apart from each other in grey

ROW, BAR, TOP, BOTTOM = 24, 14, 8, 24  # heights
CHARACTER = 7  # wide, those of Chinese twice; a name that is longer is whole in its bar's title
TICKS = 5


@dataclass(frozen=True)
class Widths:
    """Of the columns of a chart, in pixels: names, bars, and the values behind the longest bar."""

    names: int
    plot: int
    values: int


WIDE, NARROW = Widths(190, 380, 160), Widths(150, 190, 70)


@dataclass(frozen=True)
class Bar:
    """One bar: where it ends, the interval around that, and the place of its colour in the legend."""

    name: str
    value: float
    interval: Sequence[float] | None = None
    series: int = 0
    label: str | None = None  # what stands behind it; None: the value


def bar_chart(
    name: str,
    bars: Sequence[Bar],
    legend: Sequence[str] = (),
    limits: tuple[float, float] | None = None,
    widths: Widths = WIDE,
) -> str:
    """Horizontal bars from zero, one under the other, with whiskers where there are intervals.

    `limits` are the ends of the axis; left out, it holds zero and everything shown. Numbers have to be finite.
    """
    low, high = limits or _limits(bars)
    step = _step(low, high)
    top = TOP + (ROW if legend else 0)
    bottom = top + ROW * len(bars)

    def x(value: float) -> float:
        return widths.names + widths.plot * (min(max(value, low), high) - low) / (high - low)

    ticks = [step * number for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    parts = [
        f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}" '
        f'stroke="{"#8a94a2" if tick == 0 else "#e3e7ec"}"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{round(tick, 10):g}</text>'
        for tick in ticks
    ]
    parts += [
        _bar(bar, widths.names, top + ROW * place, x(0), x(bar.value), bar.interval and tuple(map(x, bar.interval)))
        for place, bar in enumerate(bars)
    ]
    place = widths.names
    for series, text in enumerate(legend):
        parts.append(
            f'<rect x="{place}" y="{TOP - 2}" width="12" height="12" fill="{COLOURS[series]}"/>'
            f'<text class="name" x="{place + 17}" y="{TOP + 8}">{escape(text)}</text>'
        )
        place += 40 + CHARACTER * len(text)
    width = widths.names + widths.plot + widths.values
    return (
        f'<svg width="{width}" height="{bottom + BOTTOM}" viewBox="0 0 {width} {bottom + BOTTOM}" role="img" '
        f'aria-label="{escape(name)}"><title>{escape(name)}</title>{"".join(parts)}</svg>'
    )


def _bar(bar: Bar, names: int, top: int, zero: float, end: float, whisker: Sequence[float] | None) -> str:
    label = shown(bar.value) if bar.label is None else bar.label
    name = _cut(bar.name, names // CHARACTER)
    middle = top + ROW / 2
    known = f"{bar.name}: {label}" + (f" (95 % interval {between(bar.interval)})" if bar.interval else "")
    lines = ""
    if whisker is not None:
        low, high = whisker
        caps = "".join(f"M{at:.1f} {middle - 4}v8" for at in (low, high))
        lines = f'<path d="M{low:.1f} {middle}H{high:.1f}{caps}" stroke="#1c2430" stroke-width="1.5" fill="none"/>'
    behind = max(zero, end, *(whisker or ())) + 6
    return (
        f'<g><title>{escape(known)}</title><text class="name" x="{names - 8}" y="{middle + 4}" text-anchor="end">'
        f'{escape(name)}</text><rect x="{min(zero, end):.1f}" y="{middle - BAR / 2}" width="{abs(end - zero):.1f}" '
        f'height="{BAR}" fill="{COLOURS[bar.series]}" fill-opacity=".8"/>{lines}'
        f'<text class="name" x="{behind:.1f}" y="{middle + 4}">{escape(label)}</text></g>'
    )


def _cut(name: str, room: int) -> str:
    """As much of a name as there is room for, in characters of usual width."""
    ends = list(accumulate(2 if east_asian_width(character) in "WF" else 1 for character in name))
    return name if not ends or ends[-1] <= room else name[: sum(end < room for end in ends)] + "…"


def _limits(bars: Sequence[Bar]) -> tuple[float, float]:
    ends = [0.0, *(end for bar in bars for end in (bar.value, *(bar.interval or ())))]
    low, high = min(ends), max(ends)
    return (low, high) if high > low else (0.0, 1.0)


def _step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are about TICKS of them."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
