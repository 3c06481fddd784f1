"""What contract tests know of each task: odd records, and how its artifact is used without Tailor.

Every variant that a job can ask for needs an entry in PROBES; an option that changes the head is worth one of its own.
"""

import ast
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from scipy.stats import spearmanr
from sklearn.metrics import mean_squared_error
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from app.catalog.plan import DataFile
from app.catalog.task_spec import TaskSpec, Variant
from app.catalog.tasks import TASKS
from tests.contract.tiny import Row
from worker.tasks.fill_mask import FillMask
from worker.training.data import Records, collate
from worker.training.entities import entities, entity_values

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

    `odd_rows` are records that preparation would partly refuse; `long` of them do not fit into 48 tokens, which is None
    where texts are not read in overlapping windows. `base` names what is trained.

    `check_artifact` uses the artifact with plain Transformers on `rows` and compares with the test metrics of the run.
    `check_count` asserts that the test metrics of a run on `odd_rows` left out none of them.
    """

    task: dict[str, Any]
    odd_rows: list[Row]
    long: int | None
    noun: str
    check_count: Callable[[dict[str, Any]], None]
    check_artifact: Callable[[Path, list[Row], dict[str, Any]], None]
    perfect: float = 1.0
    tolerance: float = 1e-6
    lowest_loss: float = 0.1
    n_epochs: int = 40  # until eight rows are learned by heart
    long_says: str = "overlapping windows"
    other_rows: list[Row] | None = None
    base: str = "encoder"

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
        """The catalogue's own records, or others in the same form."""
        return list(self.other_rows or self.variant.example)

    def __str__(self) -> str:
        return " ".join(map(str, self.task.values())) + (" of other rows" if self.other_rows else "")


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


def check_multi_label_classifier(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    config = AutoModelForSequenceClassification.from_pretrained(artifact).config
    assert config.problem_type == "multi_label_classification"
    assert list(config.label2id) == sorted({label for row in rows for label in row["label"]})
    assert config.thresholds == scores["thresholds"] == dict.fromkeys(config.label2id, 0.5)  # nothing to tune them on

    classify: Any = pipeline("text-classification", model=str(artifact))
    answers = [classify(row["text"], function_to_apply="sigmoid", top_k=None) for row in rows]
    predicted = [{a["label"] for a in answer if a["score"] >= config.thresholds[a["label"]]} for answer in answers]
    truth = [set(row["label"]) for row in rows]
    assert sum(a == b for a, b in zip(predicted, truth, strict=True)) / len(rows) == scores["accuracy"]
    for entry in scores["per_class"]:
        label = entry["label"]
        assert entry["support"] == sum(label in labels for labels in truth)
        assert entry["true_positives"] == sum(label in a & b for a, b in zip(predicted, truth, strict=True))
        assert entry["false_positives"] == sum(label in a - b for a, b in zip(predicted, truth, strict=True))
    probabilities = [{a["label"]: a["score"] for a in answer} for answer in answers]
    losses = [
        -math.log(found[label] if label in labels else 1 - found[label])
        for found, labels in zip(probabilities, truth, strict=True)
        for label in config.label2id
    ]
    assert sum(losses) / len(losses) == pytest.approx(scores["loss"], rel=1e-5)


def check_regression(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    assert AutoModelForSequenceClassification.from_pretrained(artifact).config.problem_type == "regression"
    classify: Any = pipeline("text-classification", model=str(artifact))
    texts = [{name: row[name] for name in ("text", "text_pair") if row.get(name) is not None} for row in rows]
    predicted = [classify(text, function_to_apply="none")["score"] for text in texts]
    truth = [row["label"] for row in rows]
    assert mean_squared_error(truth, predicted) == pytest.approx(scores["mse"], rel=1e-4)
    assert spearmanr(truth, predicted).statistic == pytest.approx(scores["spearman"], abs=1e-9)
    assert scores["predicted"]["mean"] == pytest.approx(sum(predicted) / len(predicted), rel=1e-4)


def check_rows_of_each_label(scores: dict[str, Any]) -> None:
    outcomes = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    for entry in scores["per_class"]:
        assert sum(entry[name] for name in outcomes) == len(ODD_TEXTS)


def check_rows(scores: dict[str, Any]) -> None:
    assert scores["rows"] == len(ODD_TEXTS)


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


LONG_WORD = "ab" * 40  # more pieces than fit into a window
ODD_SENTENCES: list[Row] = [
    {"tokens": [], "tags": []},
    {"tokens": [""], "tags": ["O"]},
    {"tokens": ["a"], "tags": ["B-X"]},
    {"tokens": ["\x07", "\u200b", "Ada", "😀"], "tags": ["B-X", "I-X", "I-X", "B-Y"]},
    {"tokens": ["\x07", " "], "tags": ["B-Y", "O"]},
    {"tokens": ["e\u0301te\u0301", "نص", "你好", "\ufffd"], "tags": ["B-Y", "I-Y", "O", "O"]},
    {"tokens": ["x" * 5000, "y"], "tags": ["B-X", "O"]},
    {"tokens": ["the", LONG_WORD, "film"], "tags": ["B-X", "I-X", "O"]},
    {"tokens": [LONG_WORD, LONG_WORD], "tags": ["B-X", "B-Y"]},
    {"tokens": ["the", "film"] * 100, "tags": ["B-X", "I-X", "O", "B-Y"] * 50},
]


def check_entity_support(scores: dict[str, Any]) -> None:
    gold = sum(tag.startswith("B-") for row in ODD_SENTENCES for tag in row["tags"])
    assert sum(entry["support"] for entry in scores["per_class"]) == gold


def check_tags(rows: list[Row], predicted: list[list[str]], scores: dict[str, Any]) -> None:
    values = entity_values([row["tags"] for row in rows], predicted)
    assert values == pytest.approx({name: scores[name] for name in values}, abs=1e-12)


def check_linear_tagger(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    model = AutoModelForTokenClassification.from_pretrained(artifact)
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    tag: Any = pipeline("token-classification", model=str(artifact), aggregation_strategy="first")
    predicted: list[list[str]] = []
    loss = 0.0
    for row in rows:
        encoded = tokenizer(row["tokens"], is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**encoded).logits[0]
        first = [encoded.word_ids(0).index(word) for word in range(len(row["tokens"]))]
        predicted.append([model.config.id2label[index] for index in logits[first].argmax(dim=1).tolist()])
        truth = torch.tensor([model.config.label2id[name] for name in row["tags"]])
        loss += torch.nn.functional.cross_entropy(logits[first], truth, reduction="sum").item()
        (found,) = tag([row["tokens"]], is_split_into_words=True)
        assert [entity["entity_group"] for entity in found] == [
            name[2:]
            for before, name in pairwise(["O", *predicted[-1]])
            if name != "O" and (name[0] == "B" or name[2:] != before[2:])
        ]
    check_tags(rows, predicted, scores)
    assert loss / sum(len(row["tokens"]) for row in rows) == pytest.approx(scores["loss"], rel=1e-5)


def check_crf_tagger(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    model = AutoModelForTokenClassification.from_pretrained(artifact, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules.")
    predicted = model.tag([row["tokens"] for row in rows], AutoTokenizer.from_pretrained(artifact))
    check_tags(rows, predicted, scores)
    tag: Any = pipeline("token-classification", model=str(artifact), trust_remote_code=True)
    for row, tags in zip(rows, predicted, strict=True):
        (found,) = tag([row["tokens"]], is_split_into_words=True)
        text = " ".join(row["tokens"])
        assert [(entity["entity_group"], entity["word"]) for entity in found] == [
            (kind, " ".join(row["tokens"][start:end])) for kind, start, end in entities(tags)
        ]
        assert all(text[entity["start"] : entity["end"]] == entity["word"] for entity in found)
        assert all(0 < entity["score"] <= 1 for entity in found)
        assert [entity["word"] for entity in tag(text)] == [entity["word"] for entity in found]


def written_by_card(artifact: Path, verb: str, texts: list[str]) -> list[str]:
    """What the lines on the model card write."""
    card = (artifact / "README.md").read_text("utf-8")
    code = card.split("```python\n")[1].split("\n```")[0].replace("path/to/this/directory", str(artifact))
    scope: dict[str, Any] = {}
    exec(code, scope)  # what a reader of the card would run
    return scope[verb](texts)


def target_loss(artifact: Path, sources: list[str], targets: list[str]) -> float:
    """Mean over target tokens, one record at a time, by Transformers' own shift of the labels."""
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(artifact)
    tokenizer: Any = AutoTokenizer.from_pretrained(artifact)
    losses, tokens = 0.0, 0
    for source, target in zip(sources, targets, strict=True):
        ids = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
        labels = ids[:, 1:] if ids[0, 0] == model.generation_config.decoder_start_token_id else ids
        before = model.prepare_decoder_input_ids_from_labels(labels)
        with torch.inference_mode():
            logits = model(**tokenizer(source, return_tensors="pt"), decoder_input_ids=before).logits
        losses += torch.nn.functional.cross_entropy(logits[0], labels[0], reduction="sum").item()
        tokens += labels.shape[1]
    return losses / tokens


def check_translations(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    sources, targets = [row["source"] for row in rows], [row["target"] for row in rows]
    predicted = written_by_card(artifact, "translate", sources)
    assert predicted == [entry["prediction"] for entry in scores["predictions"]]
    for name, metric in (("bleu", BLEU(force=True)), ("chrf", CHRF()), ("ter", TER())):
        assert metric.corpus_score(predicted, [targets]).score == pytest.approx(scores[name], abs=1e-9)
        assert str(metric.get_signature()) == scores["signatures"][name]
    assert target_loss(artifact, sources, targets) == pytest.approx(scores["loss"], rel=1e-5)
    search = json.loads((artifact / "generation_config.json").read_text("utf-8"))
    assert (search["num_beams"], search["max_new_tokens"]) == (2, 12)


def check_summaries(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    documents, summaries = [row["document"] for row in rows], [row["summary"] for row in rows]
    predicted = written_by_card(artifact, "summarize", documents)
    assert predicted == [entry["prediction"] for entry in scores["predictions"]]
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    library = RougeScorer(names, use_stemmer=True)
    found = [
        library.score_multi(row.get("references") or [row["summary"]], text)
        for row, text in zip(rows, predicted, strict=True)
    ]
    for name in names:
        assert sum(one[name].fmeasure for one in found) / len(rows) == pytest.approx(scores[name], abs=1e-9)
    assert target_loss(artifact, documents, summaries) == pytest.approx(scores["loss"], rel=1e-5)


def card_scope(artifact: Path) -> dict[str, Any]:
    """What the lines on a model card leave behind, and the value of the last one."""
    card = (artifact / "README.md").read_text("utf-8")
    code = card.split("```python\n")[1].split("\n```")[0].replace("path/to/this/directory", str(artifact))
    *lines, last = ast.parse(code).body
    scope: dict[str, Any] = {}
    exec(compile(ast.Module(lines, []), "card", "exec"), scope)  # what a reader of the card would run
    assert isinstance(last, ast.Expr)
    return scope | {"value": eval(compile(ast.Expression(last.value), "card", "eval"), scope)}


def check_masked_tokens(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    """Transformers' own loss over the masks of an evaluation, and what its pipeline puts in their place."""
    model = AutoModelForMaskedLM.from_pretrained(artifact).eval()
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    fill = card_scope(artifact)["fill"]
    task = FillMask(0.3, whole_words=True, packing=False, label_smoothing=0.0, seed=5)
    records = Records("test", DataFile(path="", file_id="", filename="", sha256="", rows=0), pa.Table.from_pylist(rows))
    examples = task.encode(records, tokenizer, 48)
    losses: list[torch.Tensor] = []
    for window in range(examples.count):
        batch = collate(examples, np.array([window]), torch.device("cpu"))
        place, token = batch.targets["place"], batch.targets["token"]
        with torch.inference_mode():
            logits = model(**batch.inputs).logits[0, place]
        losses.append(torch.nn.functional.cross_entropy(logits, token, reduction="none"))
        if batch.inputs["input_ids"][0, place].eq(tokenizer.mask_token_id).tolist() == [True]:
            (answers,) = [fill(tokenizer.decode(batch.inputs["input_ids"][0, 1:-1]))]
            assert answers[0]["token"] == logits.argmax(dim=-1).item()
    assert torch.cat(losses).mean().item() == pytest.approx(scores["loss"], rel=1e-5)
    assert len(torch.cat(losses)) == scores["tokens"]


def generation_loss(artifact: Path, texts: list[tuple[str, str]]) -> float:
    """Mean over the tokens of what follows each context, by Transformers' own loss, which shifts the labels itself."""
    model = AutoModelForCausalLM.from_pretrained(artifact).eval()
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    total, count = 0.0, 0
    for context, answer in texts:
        before = tokenizer(context)["input_ids"]
        ids = tokenizer(context + answer)["input_ids"]
        assert ids[: len(before)] == before
        labels = torch.tensor([[-100] * len(before) + ids[len(before) :]])
        tokens = int((labels[:, 1:] != -100).sum())
        with torch.inference_mode():
            total += model(input_ids=torch.tensor([ids]), labels=labels).loss.item() * tokens
        count += tokens
    return total / count


def check_chats(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(artifact)
    texts: list[tuple[str, str]] = []
    for row in rows:
        *before, answer = row["messages"]
        context = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        assert context.endswith("### Assistant:\n")
        texts.append((context, answer["content"] + tokenizer.eos_token))
    assert generation_loss(artifact, texts) == pytest.approx(scores["loss"], rel=1e-5)
    assert isinstance(card_scope(artifact)["value"], str)


def check_completions(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    end = AutoTokenizer.from_pretrained(artifact).eos_token
    texts = [(row["prompt"], row["completion"] + end) for row in rows]
    assert generation_loss(artifact, texts) == pytest.approx(scores["loss"], rel=1e-5)
    assert isinstance(card_scope(artifact)["value"], str)


def check_documents(artifact: Path, rows: list[Row], scores: dict[str, Any]) -> None:
    end = AutoTokenizer.from_pretrained(artifact).eos_token
    assert generation_loss(artifact, [("", row["text"] + end) for row in rows]) == pytest.approx(
        scores["loss"], rel=1e-5
    )
    assert card_scope(artifact)["value"].startswith("A text that")


def check_tokens(scores: dict[str, Any]) -> None:
    assert scores["tokens"] > len(ODD_TEXTS)


def _chat(*contents: str) -> Row:
    roles = ["system", *["user", "assistant"] * len(contents)]
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    return {"messages": messages}


PROBES: tuple[Probe, ...] = (
    Probe(
        task={"type": "translation", "max_target_length": 12, "generation": {"num_beams": 2}},
        odd_rows=[
            {"source": text, "target": other} for text, other in zip(ODD_TEXTS, reversed(ODD_TEXTS), strict=True)
        ],
        long=1,
        noun="texts",
        check_count=check_rows,
        check_artifact=check_translations,
        perfect=100.0,
        n_epochs=160,
        long_says="cut off",
    ),
    Probe(
        task={"type": "summarization", "max_target_length": 12, "generation": {"num_beams": 1}},
        odd_rows=[
            {"document": text, "summary": other, "references": [other, "the film"]}
            for text, other in zip(ODD_TEXTS, reversed(ODD_TEXTS), strict=True)
        ],
        long=1,
        noun="texts",
        check_count=check_rows,
        check_artifact=check_summaries,
        n_epochs=160,
        long_says="cut off",
    ),
    Probe(
        task={"type": "fill-mask", "mlm_probability": 0.3, "whole_word_masking": True, "packing": False},
        odd_rows=[{"text": text} for text in ODD_TEXTS],
        long=None,
        noun="texts",
        check_count=check_tokens,
        check_artifact=check_masked_tokens,
        tolerance=0.5,
        lowest_loss=1.0,
        n_epochs=120,
        other_rows=[{"text": "The nurse recorded the temperature."}, {"text": "A second scan was not done."}] * 4,
    ),
    *(
        Probe(
            task={"type": "text-generation", "format": name} | ({"packing": False} if name == "text" else {}),
            odd_rows=odd_rows,
            long=None,
            noun="texts",
            check_count=check_tokens,
            check_artifact=check,
            tolerance=0.5,
            lowest_loss=0.5,
            n_epochs=100,
            base="decoder",
        )
        for name, check, odd_rows in (
            ("chat", check_chats, [_chat("", text, text or "a", text, "b") for text in ODD_TEXTS]),
            ("completion", check_completions, [{"prompt": text, "completion": text or "a"} for text in ODD_TEXTS]),
            ("text", check_documents, [{"text": text} for text in (*ODD_TEXTS[-1:], *ODD_TEXTS[:-1])]),
        )
    ),
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
        n_epochs=160,
    ),
    Probe(
        task={"type": "text-classification", "problem_type": "multi_label_classification"},
        odd_rows=[
            {"text": text, "label": [f"label {n}" for n in range(3) if index >> n & 1]}
            for index, text in enumerate(ODD_TEXTS)
        ],
        long=1,
        noun="texts",
        check_count=check_rows_of_each_label,
        check_artifact=check_multi_label_classifier,
        n_epochs=200,
        lowest_loss=0.2,
    ),
    Probe(
        task={"type": "text-classification", "problem_type": "regression"},
        odd_rows=[{"text": text, "label": index / 3} for index, text in enumerate(ODD_TEXTS)],
        long=1,
        noun="texts",
        check_count=check_rows,
        check_artifact=check_regression,
        n_epochs=100,
    ),
    Probe(
        task={"type": "text-classification", "problem_type": "regression"},
        odd_rows=[
            {"text": text, "text_pair": [*ODD_TEXTS[1:], None][index], "label": 1e4 - index}
            for index, text in enumerate(ODD_TEXTS)
        ],
        long=2,
        noun="texts",
        check_count=check_rows,
        check_artifact=check_regression,
        n_epochs=150,
        other_rows=[
            {"text": text, "text_pair": pair, "label": 1000.0 * number}
            for number, (text, pair) in enumerate(
                [
                    ("I walked out.", "One of the best of the year."),
                    ("Dull, but well shot.", None),
                    ("Perfect from the first minute.", "I walked out."),
                    ("Good, if a little long.", "Fine for a rainy evening."),
                    ("A waste of a strong cast.", "A strong cast."),
                    ("Fine for a rainy evening.", "Good for a rainy evening."),
                    ("I would watch it again tonight.", "I would watch it again."),
                    ("One of the best of the year.", "One of the best of the year."),
                ]
            )
        ],
    ),
    *(
        Probe(
            task={"type": "token-classification", "head": head},
            odd_rows=ODD_SENTENCES,
            long=3,
            noun="sentences",
            check_count=check_entity_support,
            check_artifact=check,
        )
        for head, check in (("crf", check_crf_tagger), ("linear", check_linear_tagger))
    ),
)
