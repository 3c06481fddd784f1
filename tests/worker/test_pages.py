"""Pages hold what they are told to, whatever it is, and nothing that a reader's browser would run or fetch."""

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from worker.domain_report.json_tables import MOST_ROWS, facts
from worker.evaluation.report import page as evaluation_page
from worker.pages.charts import NARROW, WIDE, Bar, Widths, bar_chart
from worker.pages.frame import between, document, heading, paragraph, percent, shown, table

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)></svg></style>"


class Reader(HTMLParser):
    """Elements and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_harmless(page: str) -> Reader:
    """What hostile texts leave of a page is text."""
    found = Reader(page)
    assert found.open == []
    assert not {"script", "img", "link", "iframe", "object"} & set(found.tags)
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "http" not in page
    return found


def test_whatever_a_page_is_given_stays_text() -> None:
    page = document(
        HOSTILE,
        [
            heading(HOSTILE),
            paragraph(HOSTILE, quiet=True),
            table([HOSTILE, HOSTILE], [[HOSTILE, HOSTILE]]),
            bar_chart(HOSTILE, [Bar(HOSTILE, 1.0, (0.5, 1.5), label=HOSTILE)], legend=[HOSTILE]),
            facts({HOSTILE: HOSTILE, "list": [{HOSTILE: HOSTILE}], "nested": {HOSTILE: [HOSTILE, {HOSTILE: HOSTILE}]}}),
        ],
    )
    assert assert_harmless(page).text.count(HOSTILE) >= 10


def test_a_slice_of_an_evaluation_may_have_any_name_and_is_drawn_with_its_interval() -> None:
    result = {
        "metrics": {"rows": 2, "accuracy": 0.5},
        "baseline": None,
        "slices": [
            {"slice": HOSTILE, "rows": 1, "metrics": {"accuracy": 0.5}, "intervals": {"accuracy": [0.25, 0.75]}},
            {"slice": "empty", "rows": 1, "metrics": {}, "intervals": {}},
        ],
        "slices_left_out": 0,
    }
    found = assert_harmless(evaluation_page(HOSTILE, HOSTILE, "text-classification", result))
    assert "0.5000 (95 % interval 0.2500 to 0.7500)" in found.text
    result["slices"] = [{"slice": "empty", "rows": 1, "metrics": {}, "intervals": {}}]
    assert "Slices" in assert_harmless(evaluation_page("m", "f", "fill-mask", result)).text


def bars_of(chart: str, widths: Widths = WIDE) -> list[tuple[float, float]]:
    """Where the bars begin and end, in pixels from the left end of the axis."""
    groups = ElementTree.fromstring(chart).findall("g")
    rects = [group.find("rect") for group in groups]
    assert None not in rects
    starts = [float(rect.attrib["x"]) - widths.names for rect in rects if rect is not None]
    widths = [float(rect.attrib["width"]) for rect in rects if rect is not None]
    return [(start, start + width) for start, width in zip(starts, widths, strict=True)]


def test_bars_begin_at_zero_and_are_as_long_as_their_values() -> None:
    chart = bar_chart("c", [Bar("a", 1.0), Bar("b", -1.0), Bar("c", 0.0), Bar("d", 3.0, (2.0, 4.0))])
    zero = WIDE.plot / 5  # the axis goes from -1 to 4
    assert bars_of(chart) == [
        pytest.approx(ends, abs=0.1) for ends in ((zero, 2 * zero), (0, zero), (zero, zero), (zero, 4 * zero))
    ]
    whisker = re.search(r'd="M([\d.]+) \S+H([\d.]+)M', chart)
    assert whisker is not None
    assert [float(end) - WIDE.names for end in whisker.groups()] == pytest.approx([3 * zero, 5 * zero], abs=0.1)


def test_an_axis_with_given_ends_keeps_them_and_every_chart_has_a_name() -> None:
    chart = bar_chart("Distance", [Bar("a very long name that does not fit beside", 9.0)], limits=(0.0, 2.0))
    assert bars_of(chart) == [pytest.approx((0, WIDE.plot))]
    assert bars_of(bar_chart("c", [Bar("a", 2.0)], widths=NARROW), NARROW) == [pytest.approx((0, NARROW.plot))]
    root = ElementTree.fromstring(chart)
    assert (root.attrib["role"], root.attrib["aria-label"]) == ("img", "Distance")
    assert "a very long name that does not fit beside: 9.0000" in [node.text for node in root.iter("title")]
    ticks = [node.text for node in root.findall("text")]
    assert ticks == ["0", "0.5", "1", "1.5", "2"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a" * 21, "a" * 21),
        ("a" * 22, "a" * 20 + "…"),
        ("模" * 10, "模" * 10),
        ("模" * 11, "模" * 10 + "…"),
        ("", None),
    ],
)
def test_names_are_cut_to_the_room_that_they_have(name: str, shown: str | None) -> None:
    (group,) = ElementTree.fromstring(bar_chart("c", [Bar(name, 1.0)], widths=NARROW)).findall("g")
    text = group.find("text")
    assert text is not None
    assert text.text == shown


@pytest.mark.parametrize("values", [[], [0.0], [1e-9], [5e7, -3.0]])
def test_charts_of_odd_values_can_be_drawn(values: list[float]) -> None:
    chart = bar_chart("c", [Bar(str(value), value) for value in values])
    assert len(bars_of(chart)) == len(values)
    assert len(ElementTree.fromstring(chart).findall("text")) <= 9


def test_numbers_are_shown_as_a_reader_wants_them() -> None:
    assert [shown(value) for value in (0.5, 1234.5678, 12345, True, None, "x")] == [
        "0.5000", "1234.57", "12,345", "True", "", "x",
    ]  # fmt: skip
    assert [percent(share) for share in (0.0, 0.5, 0.00012, None)] == ["0.0 %", "50.0 %", "0.012 %", ""]
    assert (between((0.1, 0.2)), between(None)) == ("0.1000 to 0.2000", "")


def test_what_methods_say_is_shown_whatever_its_form() -> None:
    said = {
        "examples": [{"before": "a film", "after": "a movie"}, {"before": "b", "operation": "swap"}],
        "kept": True,
        "empty": [],
        "counts": {"synonyms": 1200, "by_label": {"positive": 0.5}},
        "names": ["a", "b"],
        "long": "x" * 1000,
        "many": [{"n": number} for number in range(MOST_ROWS + 7)],
    }
    found = Reader(document("t", [facts(said)]))
    assert found.open == []
    for text in (
        "a movie",
        "swap",
        "yes",
        "1,200",
        "counts: by label: positive",
        "0.5000",
        "a, b",
        "7 more are in the JSON",
    ):
        assert text in found.text
    assert "x" * 500 not in found.text
