"""What contract tests know of each task: odd records, and how its artifact is used without Tailor.

Every variant that a job can ask for needs an entry in PROBES; an option that changes the head is worth one of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from app.catalog.task_spec import TaskSpec, Variant
from app.catalog.tasks import TASKS
from tests.contract.tiny import Row

ODD_TEXTS = [
    "",
    " ",
    "a",
    "\u200b",
    "\x07",
    "😀😀",
    "e\u0301te\u0301 نص 你好",
    "\ufffd",
    "the film " * 200,
    "x" * 5000,
]


@dataclass(frozen=True)
class Probe:
    """How one form of a task is tested; `task` is what a job would say.

    `odd_rows` are records that preparation would partly refuse; `long` of them do not fit into 48 tokens.

    `check_artifact` uses the artifact with plain Transformers on `rows` and compares with the test metrics of the run.
    `check_count` asserts that the test metrics of a run on `odd_rows` left out none of them.
    """

    task: dict[str, Any]
    odd_rows: list[Row]
    long: int
    noun: str
    check_count: Callable[[dict[str, Any]], None]
    check_artifact: Callable[[Path, list[Row], dict[str, Any]], None]
    perfect: float = 1.0
    lowest_loss: float = 0.1
    epochs: int = 40

    @property
    def spec(self) -> TaskSpec:
        """Its entry in the catalogue."""
        return TASKS[self.task["type"]]

    @property
    def variant(self) -> Variant:
        """Its variant."""
        return self.spec.variant(self.task)

    @property
    def rows(self) -> list[Row]:
        """The catalogue's own records."""
        return list(self.variant.example)

    def __str__(self) -> str:
        return " ".join(map(str, self.task.values()))


def check_text_classifier(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    labels = sorted({row["label"] for row in rows})
    model = AutoModelForSequenceClassification.from_pretrained(artifact)
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    assert model.config.label2id == {label: index for index, label in enumerate(labels)}
    assert model.config.problem_type == "single_label_classification"

    texts, truth = [row["text"] for row in rows], [row["label"] for row in rows]
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor([labels.index(label) for label in truth]))
    assert losses.item() == pytest.approx(scores["loss"], rel=1e-5)

    classify: Any = pipeline("text-classification", model=str(artifact))
    predicted = [answer["label"] for answer in classify(texts)]
    right = sum(guess == label for guess, label in zip(predicted, truth, strict=True))
    assert right / len(rows) == scores["accuracy"]
    matrix = [[0] * len(labels) for _ in labels]
    for label, guess in zip(truth, predicted, strict=True):
        matrix[labels.index(label)][labels.index(guess)] += 1
    assert scores["confusion_matrix"] == matrix


def check_support(scores: dict[str, Any]) -> None:
    assert sum(entry["support"] for entry in scores["per_class"]) == len(ODD_TEXTS)


def check_answers(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    card = (artifact / "README.md").read_text("utf-8")
    code = card.split("```python\n")[1].split("\n```")[0].replace("path/to/this/directory", str(artifact))
    scope: dict[str, Any] = {}
    exec(code, scope)  # what a reader of the card would run
    assert type(scope["model"]).__name__.endswith(("ForQuestionAnswering", "ForQuestionAnsweringSimple"))
    shown = scores["predictions"]
    assert [entry["id"] for entry in shown] == [row["id"] for row in rows]
    for row, entry in zip(rows, shown, strict=True):
        found = scope["answer"](row["question"], row["context"])
        assert found["answer"] == entry["answer"]
        best = next(answer for answer in entry["n_best"] if answer["text"] == entry["answer"])
        assert (found["start"], found["answer"]) == (best["start"], best["text"])
        assert found["score"] == pytest.approx(best["score"], abs=1e-4)


def check_questions(scores: dict[str, Any]) -> None:
    assert scores["questions"] == len(ODD_QUESTIONS)


def _asked(context: str, answer: str | None, question: str = "who owns the boats") -> Row:
    """A row whose answer stands first where it stands in the context."""
    known = [] if answer is None else [answer]
    return {
        "id": None,
        "question": question,
        "context": context,
        "answers": {"text": known, "answer_start": [context.index(text) for text in known]},
    }


ODD_QUESTIONS = [
    _asked("", None),
    _asked(" ", None),
    _asked("a", "a"),
    _asked("\u200b", "\u200b"),
    _asked("\x07 the mill", "\x07"),
    _asked("😀😀 the mill e\u0301te\u0301", "e\u0301te\u0301"),
    _asked("你好 mill", "好"),
    _asked("the mill " * 200 + "sells bread", "bread"),
    _asked("the mill sells bread", "bread", "what " * 300),
    _asked("the mill sells bread", "bread", ""),
    _asked("x" * 5000, "x" * 5000),
]

PROBES: tuple[Probe, ...] = (
    Probe(
        task={"type": "text-classification", "problem_type": "single_label_classification"},
        odd_rows=[{"text": text, "label": f"label {index % 3}"} for index, text in enumerate(ODD_TEXTS)],
        long=1,  # the long words are one unknown token
        noun="texts",
        check_count=check_support,
        check_artifact=check_text_classifier,
    ),
    Probe(
        task={"type": "question-answering"},
        odd_rows=ODD_QUESTIONS,
        long=1,
        noun="questions",
        check_count=check_questions,
        check_artifact=check_answers,
        epochs=160,
    ),
)
