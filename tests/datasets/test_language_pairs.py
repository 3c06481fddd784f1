"""Translation and summarization files: pairs of columns, records by language, TMX, several references."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.datasets.conftest import jsonl

PAIRS = [{"source": "Good day.", "target": "Guten Tag."}, {"source": "It rains.", "target": "Es regnet."}]
UNITS = [{"en": "Good day.", "de": "Guten Tag."}, {"de": "Es regnet.", "en": "It rains."}]
TOLD = {"source_language": "en", "target_language": "de"}


def plain(records):
    return [{name: value for name, value in record.items() if name != "row"} for record in records]


def tmx(units: str, srclang: str = "en", top: str = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">') -> bytes:
    head = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{top}\n<tmx version="1.4">\n<header srclang="{srclang}"/>\n<body>\n'
    )
    return f"{head}{units}</body>\n</tmx>\n".encode()


def unit(texts: dict[str, str]) -> str:
    return (
        "<tu>" + "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in texts.items()) + "</tu>\n"
    )


@pytest.mark.parametrize(
    ("data", "filename"),
    [
        (jsonl(PAIRS), "pairs.jsonl"),
        (b"source\ttarget\nGood day.\tGuten Tag.\nIt rains.\tEs regnet.\n", "pairs.tsv"),
        (b"src,tgt\nGood day.,Guten Tag.\nIt rains.,Es regnet.\n", "pairs.csv"),
        (json.dumps(PAIRS).encode(), "pairs.json"),
        (jsonl([{"translation": texts} for texts in UNITS]), "units.jsonl"),
        (jsonl([{"id": str(n), "translation": texts} for n, texts in enumerate(UNITS)]), "units.jsonl"),
        (gzip.compress(jsonl([{"translation": texts} for texts in UNITS])), "units.jsonl.gz"),
        (b"en\tde\nGood day.\tGuten Tag.\nIt rains.\tEs regnet.\n", "pairs.tsv"),
        (tmx("".join(map(unit, UNITS))), "memory.tmx"),
        (tmx("".join(map(unit, UNITS))).replace(b"\n", b""), "memory.tmx"),
        (gzip.compress(tmx("".join(map(unit, UNITS)))), "memory.tmx.gz"),
    ],
)
def test_every_form_gives_the_same_pairs_and_is_known_as_translation(data, filename, workbench):
    assert plain(workbench.records(data, filename, task=None)) == PAIRS
    assert workbench.report(data, filename, task=None)["task"] == "translation"
    assert plain(workbench.records(data, filename, task="translation")) == PAIRS


def test_parquet_keeps_units_in_a_struct(workbench):
    file = io.BytesIO()
    pq.write_table(pa.table({"translation": UNITS}), file)
    assert plain(workbench.records(file.getvalue(), "units.parquet", task=None)) == PAIRS


@pytest.mark.parametrize("data", [jsonl([{"translation": t} for t in UNITS]), tmx("".join(map(unit, UNITS)))])
def test_languages_are_told_and_handed_on_or_chosen(data, workbench):
    report = workbench.report(data, "units", task=None)
    assert report["options"] == TOLD
    assert [warning["code"] for warning in report["warnings"]] == ["direction_told"]
    turned = {"source_language": "de", "target_language": "en"}
    report = workbench.report(data, "units", task="translation", options=turned)
    assert (report["options"], report["warnings"]) == (turned, [])
    (first, _) = workbench.records(data, "units", task="translation", options=turned)
    assert (first["source"], first["target"]) == ("Guten Tag.", "Good day.")
    chosen = workbench.records(data, "units", {"source": "de", "target": "en"}, task="translation")
    assert plain(chosen)[0] == plain([first])[0]


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("en_XX", "en"),
        ("eng_Latn", "en"),
        ("en", "en-US"),
        ("EN", "en"),
        ("zho_Hans", "zh-CN"),
        ("pt-BR", "pt-BR"),
        ("es", "spa"),
    ],
)
def test_codes_of_one_language_are_known_in_every_spelling(asked, there, workbench):
    data = jsonl([{"translation": {"xx": "a b", there: "c d", "pt-PT": "e f", "est": "g h"}}])
    options = {"source_language": asked, "target_language": "xx"}
    (record,) = workbench.records(data, "a.jsonl", task="translation", options=options)
    assert (record["source"], record["target"]) == ("c d", "a b")


def test_files_of_several_languages_need_a_choice(workbench):
    data = jsonl([{"translation": {"en": "a", "de": "b", "fr": "c"}}])
    error = workbench.refused(data, "a.jsonl", task="translation")
    assert error.code == "languages_in_doubt"
    assert "'en', 'de', 'fr'" in error.message
    (record,) = workbench.records(data, "a.jsonl", task="translation", options=TOLD | {"target_language": "fr"})
    assert record["target"] == "c"


def test_units_that_lack_a_language_or_have_it_twice_are_named(workbench):
    data = jsonl(
        [{"translation": texts} for texts in [*UNITS, {"en": "alone"}, {"en": "a", "de-DE": "b", "de-AT": "c"}]]
    )
    error = workbench.refused(data + b'{"translation": "no object"}\n', "a.jsonl", task="translation", options=TOLD)
    assert [(problem["code"], problem["line"]) for problem in error.data["problems"]] == [
        ("language_missing", 3),
        ("several_texts_of_a_language", 4),
        ("translation_not_object", 5),
    ]


def test_an_empty_text_of_a_unit_is_named_with_its_line(workbench):
    error = workbench.refused(tmx(unit(UNITS[0]) + unit({"en": "a", "de": " "})), "a.tmx", task=None)
    assert (error.code, error.data["line"]) == ("empty_text", 7)


def test_markup_inside_of_a_segment_is_left_out_and_its_text_is_kept(workbench):
    units = unit({"en": 'Press <bpt i="1">&lt;b></bpt><hi>Save</hi><ept i="1">&lt;/b></ept> &amp; go.', "de": "Los."})
    (record,) = workbench.records(tmx(units), "a.tmx", task=None)
    assert record["source"] == "Press Save & go."


def test_the_header_says_which_language_is_the_original(workbench):
    (record,) = workbench.records(tmx(unit(UNITS[0]), srclang="de"), "a.tmx", task=None)
    assert record["source"] == "Guten Tag."


BOMB = '<!DOCTYPE tmx [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {name} "{("&" + before + ";") * 10}">' for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (tmx(unit({"en": "&i;", "de": "b"}), top=BOMB), "xml_entity"),
        (tmx("", top='<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]>'), "xml_entity"),
        (tmx(unit({"en": "&unknown;", "de": "b"}), top=""), "invalid_xml"),
        (tmx(unit({"en": "&unknown;", "de": "b"})), "xml_entity"),
        (tmx(unit(UNITS[0]))[:-30], "truncated_xml"),
        (tmx('<tu><tuv xml:lang="en"></tu>'), "invalid_xml"),
        (tmx("<tu></tu>"), "empty_unit"),
        (tmx("<tu><tuv><seg>a</seg></tuv></tu>"), "unit_without_language"),
        (tmx("<tu>" + unit(UNITS[0])[4:-6] + unit(UNITS[0])[4:]), "several_texts_of_a_language"),
        (tmx("<tu>" + "<a>" * 700_000), "row_too_long"),
        (tmx(unit({"en": "x" * 1_400_000, "de": "b"})), "row_too_long"),
    ],
)
def test_a_tmx_file_that_cannot_be_read_says_why(data, code, workbench):
    error = workbench.refused(data, "a.tmx", task="translation", options=TOLD)
    assert error.code == code


@pytest.mark.parametrize("data", [jsonl([{"translation": t} for t in UNITS]), tmx(unit(UNITS[0]))])
def test_translations_read_for_another_task_are_recognised(data, workbench):
    error = workbench.refused(data, "a", task="text-classification")
    assert error.code == "wrong_task"
    assert "translation" in error.message


SUMMARIES = [
    {"document": "A long text about rain.", "summary": "Rain.", "references": ["Rain.", "It rains."]},
    {"document": "A long text about snow.", "summary": "Snow."},
]


@pytest.mark.parametrize(
    ("data", "filename"),
    [
        (jsonl(SUMMARIES), "a.jsonl"),
        (jsonl([{"article": r["document"], "highlights": r["summary"], **r} for r in SUMMARIES]), "a.jsonl"),
        (
            b'document,summary,references\nA long text about rain.,Rain.,"[""Rain."", ""It rains.""]"\n'
            b"A long text about snow.,Snow.,\n",
            "a.csv",
        ),
    ],
)
def test_summaries_may_have_several_references(data, filename, workbench):
    records = plain(workbench.records(data, filename, task=None))
    assert records == SUMMARIES
    assert workbench.report(data, filename, task=None)["task"] == "summarization"


@pytest.mark.parametrize(
    ("references", "code"),
    [([""], "empty_text"), ([1], "texts_not_strings"), (3, "texts_not_list"), (["a\0"], "nul_character")],
)
def test_references_that_are_none_are_named(references, code, workbench):
    rows = [SUMMARIES[0] | {"references": references}]
    assert workbench.refused(jsonl(rows), "a.jsonl", task="summarization").code == code


def test_a_text_classification_file_is_no_pair_of_languages(workbench):
    report = workbench.report(jsonl([{"text": "a", "label": "b", "id": "1", "no": "2"}] * 2), "a.jsonl", task=None)
    assert report["task"] == "text-classification"


def test_pairs_that_stand_twice_and_damaged_targets_are_warned_of(workbench):
    rows = [*PAIRS, PAIRS[0], {"source": "It rains.", "target": "Regen f\ufffdllt."}]
    warnings = workbench.report(jsonl(rows), "a.jsonl", task="translation")["warnings"]
    assert [(warning["code"], warning["field"], warning["line"]) for warning in warnings] == [
        ("replacement_character", "target", 4),
        ("duplicates", None, 1),
    ] or [(warning["code"], warning["line"]) for warning in warnings] == [
        ("duplicates", 1),
        ("replacement_character", 4),
    ]
