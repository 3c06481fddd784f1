"""Masked language modelling: an encoder goes on learning from the texts of a domain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from pydantic import BaseModel
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.fill_mask import FillMaskOptions
from worker.protocol import Log
from worker.training.blocks import Blocks, Frame, Tokens, build, cut, encode_all
from worker.training.data import Batch, Examples, Records, plain_tokenizer
from worker.training.encoder import BaseModelFiles, load_weights, replaced_head, trained_head
from worker.training.failures import UserError
from worker.training.interfaces import Objective, Predictions, Scores
from worker.training.language_metrics import WindowTokens, language_detail, language_values, window_sums
from worker.training.language_outcomes import language_outcomes
from worker.training.language_tasks import LanguageTask, blocks_log, nothing_to_learn, refuse_class_weights
from worker.training.leakage import find_leakage
from worker.training.masking import Masking, predicted_tokens, renumbered, token_units, word_units
from worker.training.outcomes import Outcomes
from worker.training.vocabulary_head import logits_at, token_losses

# How the classes of Transformers name their heads. The decoder's matrix is the body's embedding and trains as such.
HEADS = (
    "cls.",
    "decoder.",
    "generator_lm_head.",
    "generator_predictions.",
    "head.",
    "lm_head.",
    "lm_predictions.",
    "predictions.",
    "vocab_layer_norm.",
    "vocab_projector.",
    "vocab_transform.",
)


@dataclass(frozen=True)
class FillMask(LanguageTask):
    """Blocks of texts, some of whose tokens are to be told from the others."""

    with_head = ("ForMaskedLM", "ForPreTraining")

    mlm_probability: float
    whole_words: bool
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
        asked = cast(FillMaskOptions, options)
        refuse_class_weights(class_weights, asked.type)
        return cls(asked.mlm_probability, asked.whole_word_masking, asked.packing, label_smoothing, seed)

    @classmethod
    def from_artifact(cls, options: BaseModel, base: BaseModelFiles, records: Records, *, seed: int) -> Self:
        """As the options say. Raises UserError for a model without a head for masked tokens."""
        asked = cast(FillMaskOptions, options)
        if not cls.finds_head(base):
            trained_head(base, cls.with_head[0], asked.type)
        return cls(asked.mlm_probability, asked.whole_word_masking, asked.packing, 0.0, seed)

    def is_head(self, parameter: str) -> bool:
        """What stands beside the body."""
        return parameter.startswith(HEADS)

    @property
    def evaluation_rows(self) -> int | None:
        """A forward pass over all of them is fast."""
        return None

    def remarks(self, splits: Mapping[str, Records]) -> list[Log]:
        """Texts that stand in two splits."""
        return find_leakage(splits, lambda records: records.column("text"))

    def load_model(self, base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
        """The body with its own head where it has one. Raises UserError for a tokenizer without a mask token."""
        if base.tokenizer.mask_token_id is None:
            raise UserError(
                "base_model_without_mask",
                f"The tokenizer of base model {base.id!r} has no mask token, so the model cannot learn to fill masks. "
                "Use a model that was pretrained with masks.",
                "model",
            )
        model = load_weights(base, AutoModelForMaskedLM)
        kept = self.finds_head(base)
        if (log := replaced_head(base, kept=kept)) is not None:
            tell(log)
        elif not kept:
            tied = bool(getattr(model.config, "tie_word_embeddings", True))
            tell(
                Log(
                    f"Base model {base.id!r} has no head for masked tokens: a new one is trained, "
                    + ("which shares the matrix of the embeddings. " if tied else "")
                    + "The first numbers say nothing of what the model knows.",
                    level="warn",
                    data={"code": "head_new", "tied": tied},
                )
            )
        return model

    def encode(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """Blocks with the tokenizer's special tokens around them. A window weighs as much as it has tokens to predict.

        Raises UserError where no token of the split can be predicted.
        """
        blocks = self._blocks(records, tokenizer, max_length)
        if not len(blocks.record):
            raise nothing_to_learn(records)
        counts = predicted_tokens(blocks.marks, self.mlm_probability)
        masking = Masking(blocks.marks, counts, cast(int, tokenizer.mask_token_id), len(tokenizer), self.seed)
        return Examples(
            inputs={"input_ids": blocks.ids},
            targets={},
            weight=counts.astype(np.float32),
            record=blocks.record,
            pad_left=False,
            draw=masking,
        )

    def _blocks(self, records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Blocks:
        frame = Frame.of(tokenizer)
        special = np.zeros(len(tokenizer), dtype=np.bool_)
        special[[token for token in tokenizer.all_special_ids if token < len(special)]] = True
        pieces: list[tuple[Tokens, Tokens]] = []
        found = encode_all(records.column("text"), plain_tokenizer(tokenizer), special=False, offsets=self.whole_words)
        unit, packing = 0, self._packs(records)
        for text, encoding in found:
            ids = np.array(encoding.ids, dtype=np.int32)
            units = word_units(text, encoding, special) if self.whole_words else token_units(ids, special)
            units = np.where(units >= 0, units + unit, units)
            unit = int(units.max(initial=unit - 1)) + 1
            if packing and pieces:
                ids, units = _joined(frame.separator, ids), _joined(np.full_like(frame.separator, -1), units)
            pieces.append((ids, units))
        room = max_length - len(frame.prefix) - len(frame.suffix)
        framed = (
            (
                np.concatenate([frame.prefix, ids, frame.suffix]),
                np.concatenate([np.full_like(frame.prefix, -1), renumbered(units), np.full_like(frame.suffix, -1)]),
                record,
            )
            for ids, units, record in cut(pieces, room, packing=packing)
        )
        return build(framed, cast(int, tokenizer.pad_token_id), lambda _, units: bool((units >= 0).any()))

    def windows_log(self, records: Records, examples: Examples, max_length: int) -> Log | None:
        """How many blocks the texts make, and which texts have nothing to predict."""
        return blocks_log(records, examples, max_length, packing=self._packs(records))

    def _packs(self, records: Records) -> bool:
        """Texts are evaluated one by one, whatever stands before them in the file."""
        return self.packing and records.split == "train"

    def objective(self, model: torch.nn.Module, batch: Batch) -> Objective:
        """Cross-entropy of the tokens to predict; also how many of them were right."""
        logits = logits_at(model, batch)
        tokens, share = batch.targets["token"], batch.targets["share"]
        losses = token_losses(logits, tokens, self.label_smoothing)
        right = logits.detach().argmax(dim=-1) == tokens
        predictions = Predictions("softmax", logits, share)
        return Objective((losses * share).sum(), {"token_accuracy": (right * share).sum()}, (predictions,))

    def predict(self, model: torch.nn.Module, batch: Batch) -> Sequence[WindowTokens]:
        """Sums over the masked tokens of every window."""
        logits, tokens = logits_at(model, batch), batch.targets["token"]
        return window_sums(batch, token_losses(logits, tokens), logits.argmax(dim=-1) == tokens)

    def score(self, records: Records, examples: Examples, predictions: Sequence[WindowTokens]) -> Scores:
        """Means over the masked tokens of the split, which are the same ones in every evaluation."""
        return Scores(language_values(predictions), language_detail(predictions, self.seed))

    def outcomes(self, records: Records, examples: Examples, predictions: Sequence[WindowTokens]) -> Outcomes:
        """How well the masked tokens of every text were told."""
        return language_outcomes([None] * records.table.num_rows, examples, predictions)

    def usage(self) -> str:
        """The pipeline of the task."""
        return (
            "from transformers import pipeline\n\n"
            'fill = pipeline("fill-mask", model="path/to/this/directory")\n'
            'fill(f"The patient was treated with {fill.tokenizer.mask_token}.")'
        )

    def add_files(self, directory: Path, max_length: int) -> None:
        """Weights, configuration and tokenizer are enough."""


def _joined(first: Tokens, second: Tokens) -> Tokens:
    return np.concatenate([first, second])
