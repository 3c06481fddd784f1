import json

import pytest


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["a", "b"], ["a", "b"]),
        ([1, 0], ["1", "0"]),
        ([True, False], ["true", "false"]),
        ([1.0, 2.0], ["1", "2"]),
        ([-0.0, 1e20], ["0", "100000000000000000000"]),
        ([1, "1"], ["1", "1"]),
        ([True, 1], ["true", "1"]),
        ([1, 1.0], ["1", "1"]),
        (["情感", "é"], ["情感", "é"]),
    ],
)
def test_labels_of_any_type_become_the_same_text(workbench, labels, names):
    data = "\n".join(json.dumps({"text": f"film {number}", "label": label}) for number, label in enumerate(labels))
    assert [record["label"] for record in workbench.records(data.encode(), "a.jsonl")] == names


def test_space_around_a_label_is_taken_off_and_reported(workbench):
    data = b'{"text":"a b","label":"pos"}\n{"text":"c d","label":" pos\\n"}\n{"text":"e f","label":"pos"}\n'
    report = workbench.report(data, "a.jsonl")
    assert report["labels"] == {"pos": 3}
    warning = next(warning for warning in report["warnings"] if warning["code"] == "label_whitespace")
    assert (warning["line"], warning["count"], warning["field"]) == (2, 1, "label")


def test_more_labels_than_any_classifier_has_are_an_error(workbench):
    data = b"".join(b'{"text":"film","label":%d}\n' % number for number in range(10_001))
    error = workbench.refused(data, "a.jsonl")
    assert (error.code, error.data["total"], error.param) == ("too_many_labels", 1, "columns")
    assert "regression" in error.message
    assert workbench.report(data[: data.rindex(b"{")], "a.jsonl")["rows"] == 10_000
