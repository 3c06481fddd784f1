import pytest


def rows(header: str) -> bytes:
    cells = ",".join(f"cell {number}" for number in range(header.count(",") + 1))
    return f"{header}\n{cells}\n".encode()


@pytest.mark.parametrize(
    ("header", "asked", "found"),
    [
        ("text,label", {}, {"text": ("text", "name"), "label": ("label", "name")}),
        (
            "review,stars",
            {"text": "review", "label": "stars"},
            {"text": ("review", "mapping"), "label": ("stars", "mapping")},
        ),
        (
            "label,text",
            {"text": "label", "label": "text"},
            {"text": ("label", "mapping"), "label": ("text", "mapping")},
        ),
        ("review,label", {}, {"text": ("review", "alias"), "label": ("label", "name")}),
        ("Review,Sentiment", {}, {"text": ("Review", "alias"), "label": ("Sentiment", "alias")}),
        (" Text , LABEL", {}, {"text": (" Text ", "name"), "label": (" LABEL", "name")}),
        ("text,review,label", {}, {"text": ("text", "name"), "label": ("label", "name")}),
        ("label,x", {"text": "x"}, {"text": ("x", "mapping"), "label": ("label", "name")}),
        ("text,comment,x", {"label": "text", "text": "x"}, {"text": ("x", "mapping"), "label": ("text", "mapping")}),
    ],
)
def test_fields_find_their_columns(workbench, header, asked, found):
    report = workbench.report(rows(header), "a.csv", asked)
    assert {field: (by["column"], by["found_by"]) for field, by in report["fields"].items()} == found
    used = {column for column, _ in found.values()}
    assert report["unused_columns"] == [column for column in header.split(",") if column not in used]


@pytest.mark.parametrize(
    ("header", "asked", "code", "field", "parts"),
    [
        ("text,stars", {}, "missing_column", "label", ["'stars'", '{"text": "text", "label": "stars"}']),
        ("text,labels", {}, "missing_column", "label", ['{"text": "text", "label": "labels"}']),
        (
            "review_text,label",
            {"text": "review_txt"},
            "missing_column",
            "text",
            ["'review_txt'", '{"text": "review_text"}'],
        ),
        ("text,label", {"txt": "text"}, "unknown_field", "txt", ["'txt'", "write 'text' instead"]),
        (
            "text,label",
            {"banana": "text"},
            "unknown_field",
            "banana",
            ["'text', 'text_pair', 'label'", "write 'text' instead"],
        ),
        ("text,label", {"text": "label", "label": "label"}, "column_used_twice", "label", ["'text', 'label'"]),
        ("review,comment,label", {}, "ambiguous_column", "text", ["'review', 'comment'", '{"text": "review"}']),
        ("Text,TEXT,label", {}, "ambiguous_column", "text", ["'Text', 'TEXT'"]),
    ],
)
def test_a_field_without_its_column_says_what_to_pass(workbench, header, asked, code, field, parts):
    error = workbench.refused(rows(header), "a.csv", asked)
    assert (error.code, error.param, error.data["field"]) == (code, "columns", field)
    for part in parts:
        assert part in error.message


def test_all_fields_that_are_missing_are_named(workbench):
    error = workbench.refused(rows("a,b"), "a.csv")
    assert [problem["field"] for problem in error.data["problems"]] == ["text", "label"]


@pytest.mark.parametrize(
    ("header", "task"),
    [
        ("tokens,ner_tags", "token-classification"),
        ("id,words,tags", "token-classification"),
        ("id,context,question,answers", "question-answering"),
        ("source,target", "translation"),
        ("Document,Summary", "summarization"),
        ("prompt,completion", "text-generation"),
        ("messages", "text-generation"),
    ],
)
def test_data_of_another_task_is_recognised(workbench, header, task):
    error = workbench.refused(rows(header), "a.csv")
    assert (error.code, error.param) == ("wrong_task", "columns")
    assert f"look like {task} data" in error.message
