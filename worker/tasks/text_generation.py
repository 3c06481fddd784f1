"""Text generation: what follows a chat or a prompt, or a text from left to right, by a causal language model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.text_generation import TextGenerationOptions
from worker.protocol import Log
from worker.training.chats import PLAIN_TEMPLATE, ChatWriter
from worker.training.completions import Learned, NextTokens
from worker.training.data import Batch, Examples, Ragged, Records
from worker.training.encoder import BaseModelFiles, load_weights, replaced_head, trained_head
from worker.training.failures import UserError
from worker.training.generation_texts import chat_windows, completion_windows, text_windows
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.language_metrics import WindowTokens, language_detail, language_values, window_sums
from worker.training.language_outcomes import language_outcomes
from worker.training.language_tasks import (
    LanguageTask,
    blocks_log,
    cut_log,
    nothing_to_learn,
    refuse_class_weights,
    run_together,
)
from worker.training.leakage import find_leakage
from worker.training.outcomes import Outcomes
from worker.training.vocabulary_head import logits_at, token_losses

HEADS = ("lm_head.", "embed_out.", "output_projection.", "decoder.", "cls.")
CUTS = ("nothing", "context", "answer")  # by their numbers in the target `cut`
USAGE = {
    "chat": 'chat = [{"role": "user", "content": "A question."}]\n'
    'generate(chat, max_new_tokens=20)[0]["generated_text"][-1]["content"]',
    "completion": 'generate("A prompt:", max_new_tokens=20, return_full_text=False)[0]["generated_text"]',
    "text": 'generate("A text that", max_new_tokens=20)[0]["generated_text"]',
}


@dataclass(frozen=True)
class TextGeneration(LanguageTask):
    """`format` is the variant: `chat`, `completion` or `text`."""

    with_head = ("ForCausalLM", "LMHeadModel", "ForPreTraining")

    format: str
    packing: bool
    label_smoothing: float
    seed: int

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
        """Raises UserError for class weights, which are no matter of tokens."""
        asked = cast(TextGenerationOptions, options)
        refuse_class_weights(class_weights, asked.type)
        return cls(asked.format or "chat", asked.packing, label_smoothing, seed)

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """As the options say. Raises UserError for a model that was not trained to go on with texts."""
        asked = cast(TextGenerationOptions, options)
        if not cls.finds_head(base):
            trained_head(base, cls.with_head[0], asked.type)
        return cls(asked.format or "chat", asked.packing, 0.0, seed)

    def is_head(self, parameter: str) -> bool:
        """What stands beside the body; where it shares the matrix of the embeddings there is nothing."""
        return parameter.startswith(HEADS)

    @property
    def evaluation_rows(self) -> int | None:
        """A forward pass over all of them is fast; nothing is generated."""
        return None

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """What stands in two splits, and completions that run into their prompts."""
        logs = find_leakage(splits, self._whole_texts)
        if self.format == "completion" and (log := run_together(splits["train"])) is not None:
            logs.append(log)
        return logs

    def _whole_texts(self, records: Records) -> list[str]:
        if self.format == "chat":
            chats = records.column("messages")
            return ["\n".join(f"{turn['role']}: {turn['content']}" for turn in chat) for chat in chats]
        if self.format == "completion":
            return [
                "\n".join(pair) for pair in zip(records.column("prompt"), records.column("completion"), strict=True)
            ]
        return records.column("text")

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The base as it is. Raises UserError for a tokenizer without an end-of-text token.

        For chats, a tokenizer without a template gets a plain one, and generation stops where a message ends.
        """
        tokenizer = base.tokenizer
        if tokenizer.eos_token_id is None:
            raise UserError(
                "base_model_without_end",
                f"The tokenizer of base model {base.id!r} has no end-of-text token, so the model cannot learn where to "
                "stop. Give it one.",
                "model",
            )
        model = load_weights(base, AutoModelForCausalLM)
        kept = self.finds_head(base)
        if (log := replaced_head(base, kept=kept)) is not None:
            tell(log)
        stops = [cast(int, tokenizer.eos_token_id)]
        if self.format == "chat":
            if tokenizer.chat_template is None:
                tokenizer.chat_template = PLAIN_TEMPLATE
                message = (
                    f"Base model {base.id!r} has no chat template. Chats are written as `### User:`, a line break and "
                    "the message, in the same way for each role; the template is saved with the model."
                )
                tell(Log(message, level="warn", data={"code": "plain_chat_template", "template": PLAIN_TEMPLATE}))
            if (end := ChatWriter(tokenizer).turn_end()) is not None:
                stops.append(end)
        _stop_at(model, stops)
        return model

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """One window for each chat or completion, or blocks of texts. A window weighs as much as it has to learn.

        Raises UserError where the model's chat template cannot write a chat, or nothing can be learned.
        """
        match self.format:
            case "chat":
                found = chat_windows(records, tokenizer, max_length)
            case "completion":
                found = completion_windows(records, tokenizer, max_length)
            case _:
                found = text_windows(records, tokenizer, max_length, packing=self._packs(records))
        windows = [(record, window) for record, window in found if _is_learned(window)]
        if not windows:
            raise nothing_to_learn(records)
        learned = Ragged.of([_after_the_first(window) for _, window in windows], np.bool_, False)
        next_tokens = NextTokens(learned)
        return Examples(
            inputs={"input_ids": Ragged.of([window.ids for _, window in windows], np.int32, _pad(tokenizer))},
            targets={"cut": np.array([CUTS.index(window.cut) for _, window in windows], dtype=np.int64)},
            weight=next_tokens.counts.astype(np.float32),
            record=np.array([record for record, _ in windows], dtype=np.int64),
            pad_left=False,
            draw=next_tokens,
        )

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """What was cut to fit into the window, or how many blocks the texts make."""
        if self.format == "text":
            return blocks_log(records, examples, max_length, packing=self._packs(records))
        return cut_log(records, examples, max_length, CUTS)

    def _packs(self, records: Records) -> bool:
        """Texts are evaluated one by one, whatever stands before them in the file."""
        return self.packing and records.split == "train"

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Cross-entropy of the tokens to learn; also how many of them were right."""
        logits, tokens = logits_at(model, batch, use_cache=False), batch.targets["token"]
        losses = token_losses(logits, tokens, self.label_smoothing)
        right = logits.detach().argmax(dim=-1) == tokens
        predictions = Predictions("softmax", logits, torch.ones_like(losses))
        return Objective(losses.sum(), {"token_accuracy": right.sum()}, (predictions,))

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[WindowTokens]:
        """Sums over the tokens to learn of every window."""
        logits, tokens = logits_at(model, batch, use_cache=False), batch.targets["token"]
        return window_sums(batch, token_losses(logits, tokens), logits.argmax(dim=-1) == tokens)

    def score(self, records: Records, examples: Examples, predictions: Sequence[WindowTokens]) -> Scores:
        """Means over all tokens that are to be learned: of completions, of the assistant's messages, of texts."""
        return Scores(language_values(predictions), language_detail(predictions, self.seed))

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[WindowTokens]) -> Outcomes:
        """How well the tokens to learn of every record were told; nothing is generated."""
        return language_outcomes(self._targets(records), examples, predictions)

    def _targets(self, records: Records) -> list[str | None]:
        if self.format == "chat":
            answers = [[turn for turn in chat if turn["role"] == "assistant"] for chat in records.column("messages")]
            return [turns[-1]["content"] for turns in answers]
        return records.column("completion") if self.format == "completion" else [None] * records.table.num_rows

    def usage(self) -> str:
        """The pipeline of the task."""
        return (
            "from transformers import pipeline\n\n"
            'generate = pipeline("text-generation", model="path/to/this/directory")\n'
            f"{USAGE[self.format]}"
        )

    def add_files(self, directory: Path, max_length: int) -> None:
        """Weights, configurations, tokenizer and its template are enough."""


def _pad(tokenizer: PreTrainedTokenizerBase) -> int:
    return cast(int, tokenizer.pad_token_id)


def _after_the_first(window: Learned) -> Any:
    """What is learned of a window; its first token has nothing before it."""
    learned = window.learned.copy()
    learned[:1] = False
    return learned


def _is_learned(window: Learned) -> bool:
    return bool(window.learned[1:].any())


def _stop_at(model: PreTrainedModel, tokens: Sequence[int]) -> None:
    """Have `generate` stop at these tokens as well as at those it knows."""
    config = model.generation_config
    known = config.eos_token_id
    listed = [] if known is None else known if isinstance(known, list) else [known]
    stops = list(dict.fromkeys([*listed, *tokens]))
    config.eos_token_id = stops[0] if len(stops) == 1 else stops
