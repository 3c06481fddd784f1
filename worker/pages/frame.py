"""What every page is made of: the document, tables, numbers as they are read. Whatever text is given is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; } small, .quiet { color: #5a6472; }
table { border-collapse: collapse; margin: .4rem 0; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e7ec; text-align: left; vertical-align: top; }
td { overflow-wrap: break-word; max-width: 32rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.matrix td { text-align: center; min-width: 2.2rem; border: 1px solid #fff; }
.scroll { overflow-x: auto; } svg { max-width: 100%; height: auto; display: block; margin: .6rem 0; }
svg text { font: 11px system-ui, sans-serif; fill: #5a6472; } svg text.name { font-size: 12px; fill: #1c2430; }
.finding { border-left: 5px solid #8a94a2; background: #f5f7fa; padding: .7rem 1rem; margin: 1rem 0; }
.finding strong { display: block; } .finding.good { border-color: #2b8a57; } .finding.bad { border-color: #c0392b; }
.pair { display: flex; flex-wrap: wrap; gap: 0 2rem; } .pair > * { flex: 1 1 24rem; min-width: 0; }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  h2, h3 { break-after: avoid; } svg, tr, .finding { break-inside: avoid; } .scroll { overflow: visible; }
}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page; `parts` are HTML, empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body></html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    """A heading, `<h2>` or below."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, *, quiet: bool = False) -> str:
    """A paragraph; a quiet one explains."""
    return f"<p{' class=quiet' if quiet else ''}>{escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]], texts: int = 1) -> str:
    """A table whose first columns are texts, as many as `texts`, and whose others are numbers."""

    def line(cells: Sequence[object], tag: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        marked = (
            f"<{tag}{scope}{' class=number' if place >= texts else ''}>{escape(shown(cell))}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{line(head, "th")}\n{body}</table></div>'


def shown(value: object) -> str:
    """A value as a reader wants it: four decimals, thousands with commas, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def between(interval: Sequence[float] | None) -> str:
    """An interval in words; empty for None."""
    return "" if interval is None else f"{shown(interval[0])} to {shown(interval[1])}"


def percent(share: float | None) -> str:
    """A share with one decimal, and with more where it is small; empty for None."""
    if share is None:
        return ""
    return f"{100 * share:.1f} %" if share == 0 or share >= 0.001 else f"{100 * share:.2g} %"
