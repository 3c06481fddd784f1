"""Contextual substitution: words are masked, and a masked language model fills the gaps (after Kobayashi 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from app.catalog.adaptation.augmentation import ContextualSubstitution
from app.catalog.model_types import MASKED_LANGUAGE_MODELS
from worker.augmentation.edits import Generator, like, places
from worker.augmentation.passages import CHINESE, HAN, Passage, folded
from worker.augmentation.protection import Protection
from worker.tasks.fill_mask import FillMask
from worker.training.data import Batch, Examples, Ragged, collate, plain_tokenizer
from worker.training.encoder import BaseModelFiles, load_weights, open_base
from worker.training.evaluation import TOKENS_PER_BATCH
from worker.training.failures import UserError
from worker.training.sampler import evaluation_batches
from worker.training.vocabulary_head import logits_at
from worker.training.watch import Watch

LONGEST_CHINESE_WORD = 4  # characters; each is a mask of its own, filled from left to right
CONTINUES, BEGINS = ("##",), ("\u2581", "\u0120")  # marks of WordPiece, SentencePiece, byte-level BPE


@dataclass
class Gap:
    """A word that is replaced: `filled` is what stands in its place so far, `left` counts the masks behind it."""

    place: int
    left: int
    filled: str = ""


@dataclass
class Draft:
    """A passage with gaps; `generator` draws what fills them."""

    passage: Passage
    generator: Generator
    gaps: list[Gap] = field(default_factory=list[Gap])

    def text(self, mask: str) -> str:
        """The text with its masks."""
        return self._with({gap.place: gap.filled + mask * gap.left for gap in self.gaps}).text

    def result(self) -> Passage:
        """The passage with its gaps filled, each with the capitals of the word that stood there."""
        words = self.passage.words
        return self._with({gap.place: like(words[gap.place].text, gap.filled) for gap in self.gaps if not gap.left})

    def _with(self, texts: dict[int, str]) -> Passage:
        words = list(self.passage.words)
        for place, text in texts.items():
            words[place] = replace(words[place], text=text)
        return self.passage.with_words(words)


@dataclass(frozen=True)
class MaskedModel:
    """A masked language model on its device. `whole` [vocabulary] says by language which tokens are whole words."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    backend: Tokenizer
    device: torch.device
    whole: dict[str, torch.Tensor]

    @classmethod
    def open(cls, directory: Path, id_: str, device: torch.device) -> "MaskedModel":
        """The model in a directory. Raises UserError for one without a head for masked tokens."""
        base = open_base(id_, directory, MASKED_LANGUAGE_MODELS)
        if base.tokenizer.mask_token is None or not FillMask.finds_head(base):
            raise UserError(
                "contextual_without_masked_model",
                f"Model {id_!r} cannot fill masks: it has no head for masked tokens (its architecture: "
                f"{', '.join(base.config.architectures or []) or 'none'}). Name a `model` that has one, such as the "
                "result of a job with the task fill-mask.",
                "model",
            )
        model = load_weights(base, AutoModelForMaskedLM).eval()
        cast(torch.nn.Module, model).to(device)
        backend = plain_tokenizer(base.tokenizer)
        backend.enable_truncation(base.window)
        whole = {language: _whole(base, language).to(device) for language in ("en", CHINESE)}
        return cls(model, base.tokenizer, backend, device, whole)

    def substitute(
        self,
        passages: Sequence[Passage],
        generators: Sequence[Generator],
        options: ContextualSubstitution,
        protection: Protection,
        watch: Watch,
    ) -> list[Passage]:
        """The passages with some words replaced. Gaps beyond the model's window stay as they were."""
        drafts = [
            self._draft(passage, generator, options.rate, protection)
            for passage, generator in zip(passages, generators, strict=True)
        ]
        with torch.inference_mode():
            while open_ := [draft for draft in drafts if any(gap.left for gap in draft.gaps)]:
                self._fill(open_, options.top_k, watch)
        watch.add(len(passages))
        return [draft.result() for draft in drafts]

    def _draft(self, passage: Passage, generator: Generator, rate: float, protection: Protection) -> Draft:
        draft = Draft(passage, generator)
        chinese = passage.language == CHINESE
        if cast(str, self.tokenizer.mask_token) in passage.text:
            return draft  # its own masks cannot be told from ours
        open_ = [
            place
            for place, word in enumerate(passage.words)
            if protection.has_content(word, passage.language)
            and (not chinese or (len(word.text) <= LONGEST_CHINESE_WORD and all(map(HAN.match, word.text))))
        ]
        chosen = generator.permutation(len(open_))[: places(rate, passage)]
        draft.gaps = [
            Gap(open_[index], len(passage.words[open_[index]].text) if chinese else 1) for index in sorted(chosen)
        ]
        return draft

    def _fill(self, drafts: Sequence[Draft], top_k: int, watch: Watch) -> None:
        """The first mask of every gap, in batches of texts of one length."""
        examples = self._encode([draft.text(cast(str, self.tokenizer.mask_token)) for draft in drafts])
        for rows in evaluation_batches(examples.lengths, TOKENS_PER_BATCH.get(self.device.type, 16384)):
            watch.check()
            batch = collate(examples, rows, self.device)
            width = batch.inputs["input_ids"].shape[1]
            gaps: list[tuple[Draft, Gap]] = []
            places: list[int] = []
            for number, row in enumerate(rows.tolist()):
                masks = np.flatnonzero(examples.inputs["input_ids"].row(row) == self.tokenizer.mask_token_id)
                for gap, mask in first_masks(drafts[row], masks.tolist()):
                    gaps.append((drafts[row], gap))
                    places.append(number * width + mask)
            if gaps:
                batch.targets["place"] = torch.tensor(places, device=self.device)
                self._draw(batch, gaps, top_k)

    def _encode(self, texts: Sequence[str]) -> Examples:
        ids = [encoding.ids for encoding in self.backend.encode_batch(list(texts))]
        return Examples(
            inputs={"input_ids": Ragged.of(ids, np.int32, cast(int, self.tokenizer.pad_token_id))},
            targets={},
            weight=np.ones(len(ids), dtype=np.float32),
            record=np.arange(len(ids), dtype=np.int64),
            pad_left=False,
        )

    def _draw(self, batch: Batch, gaps: Sequence[tuple[Draft, Gap]], top_k: int) -> None:
        """What stands at the places of a batch, one for each gap."""
        logits = logits_at(self.model, batch).float()
        allowed = torch.stack([self.whole[draft.passage.language] for draft, _ in gaps])[:, : logits.shape[1]]
        values, tokens = logits.masked_fill(~allowed, -torch.inf).topk(min(top_k + 1, logits.shape[1]))
        for (draft, gap), row, candidates in zip(gaps, values.cpu().double().numpy(), tokens.tolist(), strict=True):
            own = folded(draft.passage.words[gap.place].text)
            texts = [plain(self.tokenizer, token) for token in candidates]
            kept = [
                index
                for index, text in enumerate(texts)
                if np.isfinite(row[index]) and folded(gap.filled + text) != own
            ][:top_k]
            gap.left -= 1
            if not kept:
                gap.left = 0
                gap.filled = draft.passage.words[gap.place].text
                continue
            weights = np.exp(row[kept] - row[kept].max())
            gap.filled += texts[kept[draft.generator.choice(len(kept), p=weights / weights.sum())]]


def first_masks(draft: Draft, masks: Sequence[int]) -> list[tuple[Gap, int]]:
    """The open gaps of a draft, each with its first mask. A gap whose mask was cut off with the text is given up."""
    left = list(masks)
    found: list[tuple[Gap, int]] = []
    for gap in [gap for gap in draft.gaps if gap.left]:
        if len(left) < gap.left:
            draft.gaps.remove(gap)
        else:
            found.append((gap, left[0]))
        left = left[gap.left :]
    return found


def plain(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """What a token says, without marks."""
    pieces = cast("list[str]", tokenizer.convert_ids_to_tokens([token]))
    return tokenizer.convert_tokens_to_string(pieces).strip()


def _whole(base: BaseModelFiles, language: str) -> torch.Tensor:
    """Which tokens are whole words of letters; for Chinese single characters. [vocabulary]"""
    tokenizer = base.tokenizer
    vocabulary = tokenizer.get_vocab()
    counts = {mark: sum(token.startswith(mark) for token in vocabulary) for mark in (*CONTINUES, *BEGINS)}
    mark = max(counts, key=lambda name: counts[name])
    special = set(tokenizer.all_special_ids)
    size = max(max(vocabulary.values()) + 1, base.config.get_text_config().vocab_size)
    whole = torch.zeros(size, dtype=torch.bool)
    for token, number in vocabulary.items():
        if number in special or (mark in CONTINUES and token.startswith(mark)):
            continue
        if language == CHINESE:
            text = plain(tokenizer, number)
            whole[number] = len(text) == 1 and HAN.match(text) is not None
        elif mark in CONTINUES or token.startswith(mark):
            text = plain(tokenizer, number)
            whole[number] = text.isalpha() and HAN.search(text) is None
    return whole
