"""The task that the engine drives: texts in, texts out, by an encoder-decoder."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.generation import AUTO_TARGET_LENGTH
from app.catalog.measures import Measure
from app.catalog.summarization import SummarizationOptions
from app.catalog.translation import TranslationOptions
from worker.protocol import Log
from worker.tasks.sequence_to_sequence.goal import Goal
from worker.tasks.sequence_to_sequence.summarization import Summaries
from worker.tasks.sequence_to_sequence.translation import Translations
from worker.tasks.sequence_to_sequence.usage import SETTINGS, usage_of
from worker.training.data import Batch, Examples, Records
from worker.training.encoder import BaseModelFiles, trained_head
from worker.training.encoder_decoder import (
    beams_of,
    decoder_inputs,
    is_fresh,
    is_writer,
    labels_of,
    load_writer,
    set_generation,
    set_languages,
    unwrapped,
    vocabulary_size,
)
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.leakage import find_leakage
from worker.training.outcomes import Baseline, Outcomes
from worker.training.written_texts import IGNORED, WrittenTexts, cut_off_log, decode_texts, encode_texts

SHOWN_ROWS = 20  # of a split, whose texts stand in its metrics
CELLS_AT_ONCE = 32_000_000  # fp32 scores of tokens held at once when nothing is learned: 128 MB


@dataclass(frozen=True)
class Written:
    """What a model wrote for a record, and how likely it held the target: `loss` is summed over `count` tokens."""

    tokens: NDArray[np.int32]
    loss: float
    count: int


@dataclass(frozen=True)
class SequenceToSequence:
    """`search` are the settings of generation, None: the model's own; without `max_target_length` it is `auto`."""

    goal: Goal
    source_prefix: str
    max_target_length: int | None
    rows: int
    search: Mapping[str, Any] | None
    label_smoothing: float

    @classmethod
    def from_records(
        cls,
        options: BaseModel,
        splits: Mapping[str, Records],
        *,
        label_smoothing: float,
        class_weights: str | Mapping[str, float] | None,
        seed: int,
    ) -> Self:
        """Raises UserError for parameters of tasks that have classes."""
        asked = cast("TranslationOptions | SummarizationOptions", options)
        if class_weights is not None:
            raise UserError(
                "class_weights_not_for_task",
                f"class_weights is {class_weights!r}, but a text is written token by token and has no classes. Leave "
                "class_weights out.",
                "hyperparameters.class_weights",
            )
        goal = _goal(asked, {}, splits["train"], seed)
        length = None if asked.max_target_length == "auto" else asked.max_target_length
        search = asked.generation
        return cls(goal, asked.source_prefix, length, asked.evaluation_rows, search.settings(), label_smoothing)

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """As the model's own settings say, its `generation_config.json` among them; a model without settings is asked.

        Raises UserError for a model that does not write texts.
        """
        asked = cast("TranslationOptions | SummarizationOptions", options)
        if not is_writer(base):
            trained_head(base, "ForConditionalGeneration", asked.type)
        path = base.directory / SETTINGS
        said: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        length = None if asked.max_target_length == "auto" else asked.max_target_length
        goal = _goal(asked, said, records, seed)
        prefix, length = said.get("source_prefix", asked.source_prefix), said.get("max_target_length", length)
        return cls(goal, prefix, length, asked.evaluation_rows, None, 0.0)

    @property
    def labels(self) -> list[str] | None:
        """There are none."""
        return None

    @property
    def head_rate_factor(self) -> float:
        """Rothe et al. 2020 train what begins from nothing at the rate of the rest."""
        return 1.0

    def is_head(self, parameter: str) -> bool:
        """What a warm-started model has that no encoder brings along."""
        return is_fresh(parameter)

    @property
    def evaluation_rows(self) -> int | None:
        """Writing takes a forward pass a token."""
        return self.rows

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """Texts to be read that stand in two splits."""
        return find_leakage(splits, lambda records: records.column(self.goal.fields[0]))

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """An encoder-decoder that generates as the job asks for. The base's tokenizer learns the languages."""
        length = self._target_length(base.window)
        if base.window_limit is not None and length > base.window_limit:
            raise UserError(
                "max_target_length_too_long",
                f"max_target_length is {length}, but base model {base.id!r} writes at most {base.window_limit} "
                f"tokens. Ask for {base.window_limit} or less.",
                "task.max_target_length",
                {"allowed": base.window_limit},
            )
        shortest = 0 if self.search is None else int(self.search["min_new_tokens"])
        if shortest > length:
            raise UserError(
                "min_new_tokens_too_long",
                f"generation.min_new_tokens is {shortest}, but a text ends after {length} tokens "
                "(max_target_length). Ask for less.",
                "task.generation.min_new_tokens",
                {"allowed": length},
            )
        model = load_writer(base, tell)
        set_generation(model, base, length, self.search)
        set_languages(model, base.tokenizer, self.goal.languages)
        if (log := self._prefix_log(base)) is not None:
            tell(log)
        return model

    def _target_length(self, window: int) -> int:
        return min(AUTO_TARGET_LENGTH, window) if self.max_target_length is None else self.max_target_length

    def _prefix_log(self, base: BaseModelFiles) -> Log | None:
        """T5 says in its configuration which words its pretraining put before a text."""
        known: dict[str, Any] = getattr(base.config, "task_specific_params", None) or {}
        prefixes = sorted({str(task["prefix"]) for task in known.values() if task.get("prefix")})
        if not prefixes or self.source_prefix:
            return None
        return Log(
            f"Base model {base.id!r} was trained on texts that begin with one of {', '.join(map(repr, prefixes))}. "
            "Ask for one with the task's option source_prefix to go on from what it knows.",
            level="warn",
            data={"code": "source_prefix_missing", "prefixes": prefixes},
        )

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """One window a record; ends that do not fit are cut off."""
        source, target = self.goal.fields
        sources = [self.source_prefix + text for text in records.column(source)]
        return encode_texts(sources, records.column(target), tokenizer, max_length, self._target_length(max_length))

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """A summary or a translation is of a whole text: there are no windows to put together."""
        return cut_off_log(records, cast(WrittenTexts, examples), max_length)

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Mean cross-entropy of a target's tokens; also the weighted share of right ones."""
        labels = labels_of(unwrapped(model), batch.targets["labels"])
        logits = _logits(model, batch.inputs, labels)
        losses = functional.cross_entropy(
            logits.transpose(1, 2),
            labels,
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
        )
        here = labels != IGNORED
        share = batch.weight / here.sum(dim=1)
        right = ((logits.detach().argmax(dim=-1) == labels) & here).sum(dim=1)
        predictions = Predictions("softmax", logits, share[:, None] * here)
        return Objective((losses.sum(dim=1) * share).sum(), {"accuracy": (right * share).sum()}, (predictions,))

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[Written]:
        """What the model writes by itself, and the loss of the targets without smoothing."""
        writer = unwrapped(model)
        labels = labels_of(writer, batch.targets["labels"])
        cells = vocabulary_size(writer) * max(labels.shape[1], beams_of(writer))
        at_once = max(1, CELLS_AT_ONCE // cells)
        found: list[Written] = []
        for start in range(0, len(labels), at_once):
            inputs = {name: tensor[start : start + at_once] for name, tensor in batch.inputs.items()}
            targets = labels[start : start + at_once]
            logits = _logits(model, inputs, targets)
            losses = functional.cross_entropy(
                logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED
            ).sum(dim=1)
            written = cast(Any, writer).generate(**inputs).cpu().numpy().astype(np.int32)
            counts = (targets != IGNORED).sum(dim=1)
            found += map(Written, written, losses.double().tolist(), counts.tolist())
        return found

    def score(self, records: Records, examples: Examples, predictions: Sequence[Written]) -> Scores:
        """The goal's metrics; `loss` is the mean over target tokens."""
        texts = decode_texts([one.tokens for one in predictions], cast(WrittenTexts, examples).tokenizer)
        scores = self.goal.score(records, texts)
        loss = sum(one.loss for one in predictions) / sum(one.count for one in predictions)
        source, target = self.goal.fields
        shown = slice(SHOWN_ROWS)
        columns = zip(
            records.column("row")[shown],
            records.column(source)[shown],
            records.column(target)[shown],
            texts[shown],
            strict=True,
        )
        predicted = [{"row": row, source: read, target: good, "prediction": text} for row, read, good, text in columns]
        return Scores(scores.values | {"loss": loss}, scores.detail | {"rows": len(texts), "predictions": predicted})

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[Written]) -> Outcomes:
        """Every text with its own scores; `loss` is per token."""
        texts = decode_texts([one.tokens for one in predictions], cast(WrittenTexts, examples).tokenizer)
        found = self.goal.statistics(records, texts)
        targets = records.column(self.goal.fields[1])
        rows = [
            {"target": target, "prediction": text} | scores
            for target, text, scores in zip(targets, texts, found.scores, strict=True)
        ]
        columns = {
            "loss": np.array([one.loss for one in predictions]),
            "tokens": np.array([one.count for one in predictions]),
        }
        loss = Measure(name="loss", form="ratio", columns=("loss", "tokens"), lower_is_better=True)
        return Outcomes(rows, {**found.columns, **columns}, (*found.measures, loss))

    def baseline(self, records: Records) -> Baseline | None:
        """The text itself as its translation, its first sentence as its summary."""
        return self.goal.baseline(records)

    def tuned(self, detail: Mapping[str, Any]) -> Self:
        """Nothing is tuned on the validation file."""
        return self

    def usage(self) -> str:
        """Transformers has no pipeline of these tasks any more; these lines are one."""
        return usage_of(self.goal.verb)

    def add_files(self, directory: Path, max_length: int) -> None:
        """What a program needs to know to write as the job did, besides `generation_config.json`."""
        settings = {
            "max_length": max_length,
            "max_target_length": self._target_length(max_length),
            "source_prefix": self.source_prefix,
        } | self.goal.settings
        (directory / SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _goal(
    asked: TranslationOptions | SummarizationOptions, said: Mapping[str, Any], records: Records, seed: int
) -> Goal:
    if isinstance(asked, TranslationOptions):
        return Translations.of(asked, said, records, seed)
    return Summaries.of(asked, said, records, seed)


def _logits(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Scores of every token at each place of the target [batch, tokens, vocabulary], in fp32."""
    before = decoder_inputs(unwrapped(model), labels)
    return model(**inputs, decoder_input_ids=before, use_cache=False).logits.float()
