"""What tasks of language modelling say and refuse alike."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from worker.protocol import Log
from worker.training.data import Examples, Records
from worker.training.encoder import BaseModelFiles
from worker.training.failures import UserError
from worker.training.outcomes import Baseline

LISTED = 10  # rows a message names before it says "and N more"


class LanguageTask:
    """What masked and causal language models have in common as tasks.

    `with_head` is how the names end of those classes of Transformers that have the head, the usual one first.
    """

    with_head: ClassVar[tuple[str, ...]]

    @property
    def labels(self) -> list[str] | None:
        """There are none."""
        return None

    @property
    def head_rate_factor(self) -> float:
        """The head learns at the body's rate."""
        return 1.0

    @classmethod
    def finds_head(cls, base: BaseModelFiles) -> bool:
        """Whether the base model brings a head of this kind."""
        return base.has_head(*cls.with_head)

    def baseline(self, records: Records) -> Baseline | None:
        """No answer that needs no model gives perplexities."""
        return None

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """Nothing to tune."""
        return self


def refuse_class_weights(class_weights: str | Mapping[str, float] | None, task: str) -> None:
    """Raises UserError where a job asks for them."""
    if class_weights is not None:
        raise UserError(
            "class_weights_not_for_task",
            f"class_weights is {class_weights!r}, but {task} has no classes. Leave it out.",
            "hyperparameters.class_weights",
        )


def nothing_to_learn(records: Records) -> UserError:
    """The error for a split without a single token to predict."""
    param = {"train": "training_file"}.get(records.split, f"{records.split}_file")
    return UserError(
        "nothing_to_learn",
        f"The {records.split} file {records.file.filename!r} has no token that the model could predict: its texts are "
        "empty or of characters that the model's tokenizer does not know. Give other texts, or another model.",
        param,
    )


def blocks_log(records: Records, examples: Examples, max_length: int, *, packing: bool) -> Log:
    """How many blocks the texts of a split make; without packing also which texts have no token to predict."""
    rows, tokens = records.table.num_rows, int(examples.lengths.sum())
    data = {"split": records.split, "texts": rows, "blocks": examples.count, "tokens": tokens, "max_length": max_length}
    how = "packed into" if packing else "cut into"
    message = f"{rows} {records.split} texts are {how} {examples.count} blocks of at most {max_length} tokens."
    empty = [] if packing else sorted(set(range(rows)) - set(examples.record.tolist()))
    if not empty:
        return Log(message, data=data)
    positions = records.column("row")
    shown = ", ".join(str(positions[row]) for row in empty[:LISTED])
    more = f" and {len(empty) - LISTED} more" if len(empty) > LISTED else ""
    return Log(
        f"{message} {len(empty)} of them have no token that can be predicted: rows {shown}{more}.",
        level="warn",
        data=data | {"code": "nothing_to_predict", "count": len(empty)},
    )


def cut_log(records: Records, examples: Examples, max_length: int, cuts: Sequence[str]) -> Log | None:
    """What did not fit into the windows of chats or completions; None where all did. `cuts` names `cut`'s numbers."""
    counts = dict(zip(cuts, np.bincount(examples.dense("cut"), minlength=len(cuts)).tolist(), strict=True))
    cut = counts["context"] + counts["answer"]
    if not cut:
        return None
    rows = records.column("row")
    first = [rows[record] for record in dict.fromkeys(examples.record[examples.dense("cut") > 0].tolist())]
    shown = ", ".join(map(str, first[:LISTED])) + (f" and {len(first) - LISTED} more" if len(first) > LISTED else "")
    message = (
        f"{cut} of {examples.count} {records.split} examples are longer than {max_length} tokens (rows {shown}): the "
        f"oldest part of what comes before the answer was left out"
    )
    if counts["answer"]:
        message += f", and the end of {counts['answer']} answers"
    return Log(
        f"{message}. A greater max_length keeps more.",
        level="warn",
        data={"code": "cut", "split": records.split, "examples": cut, "answers": counts["answer"], "rows": first[:100]},
    )


def run_together(train: Records) -> Log | None:
    """Completions that begin with a letter or digit right behind one: the usual sign of a separator that is missing."""
    pairs = list(zip(train.column("prompt"), train.column("completion"), train.column("row"), strict=True))
    rows = [row for prompt, completion, row in pairs if prompt[-1:].isalnum() and completion[:1].isalnum()]
    if not rows:
        return None
    return Log(
        f"{len(rows)} of {len(pairs)} completions begin right behind the last letter of their prompt (row {rows[0]} "
        "first), as if both were one word. If that is not meant, end prompts or begin completions with a space, a "
        "line break or a mark, and do the same when the model is used.",
        level="warn",
        data={"code": "no_separator", "count": len(rows), "rows": rows[:100]},
    )
