"""The result of an evaluation as one HTML page that needs nothing else: no script, no style sheet, no picture file."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from worker.pages.charts import Bar, bar_chart
from worker.pages.frame import between, document, table

MATRIX_LABELS = 30  # a larger confusion matrix is shown by its most frequent confusions
CONFUSIONS = 30
SIDE = 320  # of the reliability diagram, in pixels


def page(model: str, filename: str, task: str, result: Mapping[str, Any]) -> str:
    """The page; `result` is what the evaluation's `metrics` hold: metrics, baseline, slices."""
    metrics: dict[str, Any] = result["metrics"]
    parts = [
        f"<h1>{escape(model)}</h1>",
        f'<p class="quiet">{escape(task)} on {escape(filename)}, {metrics["rows"]:,} rows. Intervals are 95 % '
        f"bootstrap intervals of {metrics.get('resamples', 0):,} resamples.</p>",
        _metrics(metrics, result["baseline"]),
        _per_class(metrics),
        _matrix(metrics),
        _calibration(metrics),
        _slices(result),
    ]
    return document(f"Evaluation of {model}", parts)


def _metrics(metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    intervals: dict[str, list[float]] = metrics.get("intervals", {})
    trivial: dict[str, float] = baseline["values"] if baseline else {}
    rows = [
        (name, value, between(intervals.get(name)), trivial.get(name, ""))
        for name, value in metrics.items()
        if isinstance(value, float)
    ]
    note = f'<p class="quiet">Baseline: {escape(baseline["description"])}</p>' if baseline else ""
    return "<h2>Metrics</h2>\n" + table(["metric", "value", "95 % interval", "baseline"], rows) + note


def _per_class(metrics: Mapping[str, Any]) -> str:
    found: list[dict[str, Any]] = metrics.get("per_class", [])
    rows = [(row["label"], row["precision"], row["recall"], row["f1"], row["support"]) for row in found]
    return "<h2>By label</h2>\n" + table(["label", "precision", "recall", "F1", "rows"], rows) if rows else ""


def _matrix(metrics: Mapping[str, Any]) -> str:
    matrix: list[list[int]] | None = metrics.get("confusion_matrix")
    if matrix is None:
        return ""
    labels: list[str] = metrics["labels"]
    if len(labels) > MATRIX_LABELS:
        confused = [
            (f"{labels[truth]} taken for {labels[guess]}", count)
            for truth, row in enumerate(matrix)
            for guess, count in enumerate(row)
            if truth != guess and count
        ]
        confused.sort(key=lambda item: -item[1])
        return "<h2>Most frequent confusions</h2>\n" + table(["right answer taken for", "rows"], confused[:CONFUSIONS])
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    lines: list[str] = []
    for label, row in zip(labels, matrix, strict=True):
        total = max(1, sum(row))
        cells = "".join(
            f'<td style="background: rgba(46, 108, 223, {0.85 * count / total:.3f})">{count:,}</td>' for count in row
        )
        lines.append(f"<tr><th>{escape(label)}</th>{cells}</tr>")
    return (
        '<h2>Confusion matrix</h2>\n<p class="quiet">Rows: the right label. Columns: the predicted one. The darker, '
        f'the greater the share of its row.</p><div class="scroll"><table class="matrix"><tr><th></th>{head}</tr>'
        + "\n".join(lines)
        + "</table></div>"
    )


def _calibration(metrics: Mapping[str, Any]) -> str:
    """A reliability diagram (Niculescu-Mizil & Caruana 2005): confidence against the share that is right."""
    found: dict[str, Any] | None = metrics.get("calibration")
    if found is None:
        return ""
    bins: list[dict[str, float]] = found["bins"]
    bars = "".join(
        f'<rect x="{40 + SIDE * part["from"]:.1f}" width="{SIDE * (part["to"] - part["from"]) - 1:.1f}" '
        f'y="{10 + SIDE * (1 - part["accuracy"]):.1f}" height="{SIDE * part["accuracy"]:.1f}" fill="#2e6cdf" '
        f'fill-opacity=".75"><title>{part["count"]:,} answers, mean probability {part["confidence"]:.3f}, '
        f"right {part['accuracy']:.3f}</title></rect>"
        for part in bins
    )
    marks = "".join(
        f'<text x="{40 + SIDE * mark:.0f}" y="{26 + SIDE}" text-anchor="middle">{mark:g}</text>'
        f'<text x="34" y="{14 + SIDE * (1 - mark):.0f}" text-anchor="end">{mark:g}</text>'
        for mark in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<h2>Calibration</h2>\n<p class="quiet">Of answers ({escape(found["of"])}) that are given with a probability, '
        "so many are right; on the dotted line both are the same. Expected calibration error: "
        f'{found["ece"]:.4f}.</p><svg width="{SIDE + 60}" height="{SIDE + 50}" role="img" aria-label="Reliability '
        f'diagram"><rect x="40" y="10" width="{SIDE}" height="{SIDE}" fill="#f5f7fa"/>{bars}<line x1="40" '
        f'y1="{10 + SIDE}" x2="{40 + SIDE}" y2="10" stroke="#1c2430" stroke-dasharray="4 4"/>{marks}'
        f'<text x="{40 + SIDE / 2:.0f}" y="{44 + SIDE}" text-anchor="middle">probability of the answer</text></svg>'
    )


def _slices(result: Mapping[str, Any]) -> str:
    found: list[dict[str, Any]] | None = result["slices"]
    if not found:
        return ""
    names = list(dict.fromkeys(name for part in found for name in part["metrics"]))
    rows = [(part["slice"], part["rows"], *(part["metrics"].get(name, "") for name in names)) for part in found]
    left_out: int = result["slices_left_out"]
    more = f'<p class="quiet">{left_out:,} smaller slices are left out.</p>' if left_out else ""
    chart = slice_chart(names[0], found) if names else ""  # empty texts have no perplexity
    return "<h2>Slices</h2>\n" + chart + table(["slice", "rows", *names], rows) + more


def slice_chart(metric: str, slices: Sequence[Mapping[str, Any]]) -> str:
    """One metric of slices as evaluations have them, with intervals."""
    bars = [
        Bar(part["slice"], part["metrics"][metric], part["intervals"].get(metric))
        for part in slices
        if metric in part["metrics"]
    ]
    return bar_chart(f"{metric} by slice, with 95 % intervals", bars)
