import gzip

import pytest

MULTI = {"options": {"problem_type": "multi_label_classification"}}
SINGLE = b"__label__pos A warm, funny film.\n__label__neg Loud, long and empty.\n"
SEVERAL = b"__label__housing __label__money The rent is due.\n__label__money\tThe bank closed.\n"


@pytest.mark.parametrize("filename", ["train.txt", "train", "train.ft", "cooking.train.gz"])
def test_a_file_with_one_label_a_line_is_single_label_data(workbench, filename):
    data = gzip.compress(SINGLE) if filename.endswith(".gz") else SINGLE
    report = workbench.report(data, filename, task=None)
    assert (report["format"], report["task"]) == ("fasttext", "text-classification")
    assert report["options"] == {"problem_type": "single_label_classification"}
    assert not report["warnings"] or report["warnings"][0]["code"] not in ("extension_mismatch", "missing_column")
    records = workbench.records(data, filename)
    assert [(record["text"], record["label"]) for record in records] == [
        ("A warm, funny film.", "pos"),
        ("Loud, long and empty.", "neg"),
    ]


def test_a_file_with_several_labels_on_a_line_is_multi_label_data(workbench):
    assert workbench.report(SEVERAL, "a.txt")["options"] == {"problem_type": "multi_label_classification"}
    records = workbench.records(SEVERAL, "a.txt")
    assert [(record["text"], record["label"], record["row"]) for record in records] == [
        ("The rent is due.", ["housing", "money"], 1),
        ("The bank closed.", ["money"], 2),
    ]


def test_one_label_a_line_is_read_as_lists_where_any_number_is_asked_for(workbench):
    records = workbench.records(SINGLE, "a.txt", **MULTI)
    assert [record["label"] for record in records] == [["pos"], ["neg"]]


def test_a_second_label_in_single_label_data_names_the_option_that_reads_it(workbench):
    error = workbench.refused(SINGLE * 600 + SEVERAL, "a.txt")
    assert (error.code, error.data["line"]) == ("label_is_list", 1201)
    assert 'problem_type: "multi_label_classification"' in error.message


def test_numbers_behind_the_mark_are_scores_where_regression_is_asked_for(workbench):
    data = b"__label__0.5 one\n__label__3 two\n"
    records = workbench.records(data, "a.txt", options={"problem_type": "regression"})
    assert [record["label"] for record in records] == [0.5, 3.0]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"no label here", "no_label"),
        (b"__label__pos", "empty_text"),
        (b"__label__ a text", "empty_label"),
        (b"__label__pos a __label__neg text", "label_in_text"),
        (b"__label__pos caf\xe9", "not_utf8"),
        (b"__label__" + b"x" * 300 + b" text", "label_too_long"),
    ],
)
def test_a_broken_line_is_named(workbench, line, code):
    error = workbench.refused(SINGLE + b"\n" + line + b"\n" + SINGLE, "a.txt")
    assert (error.code, error.data["line"], error.data["total"]) == (code, 4, 1)
