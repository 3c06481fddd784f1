"""Best paths and likelihoods of whole sentences, from the logits of their words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torchcrf import CRF

from worker.heads.modeling_crf import FORBIDDEN, illegal_transitions, viterbi

WORDS_PER_BATCH = 20_000

Logits = Sequence[NDArray[np.float32]]


@dataclass(frozen=True)
class Chain:
    """A field's scores, on the CPU and in fp32: of the first tag, of a tag after another, of the last."""

    start: torch.Tensor
    step: torch.Tensor
    end: torch.Tensor

    @classmethod
    def of(cls, crf: Any) -> "Chain":
        """A copy of a field as it is now."""
        scores = (crf.start_transitions, crf.transitions, crf.end_transitions)
        return cls(*(score.detach().float().cpu().clone() for score in scores))


def best_paths(sentences: Logits, chain: Chain | None, labels: Sequence[str]) -> list[list[int]]:
    """The ids of every sentence: Viterbi's path among legal IOB2, or each word's best without a field."""
    if chain is None:
        return [logits.argmax(axis=1).tolist() for logits in sentences]
    no_start, no_step = illegal_transitions(tuple(labels))
    start, step = chain.start.masked_fill(no_start, FORBIDDEN), chain.step.masked_fill(no_step, FORBIDDEN)
    paths: list[list[int]] = [[] for _ in sentences]
    for rows, logits, mask in _batches(sentences):
        found = viterbi(logits, mask, start, step, chain.end).tolist()
        for row, path in zip(rows, found, strict=True):
            paths[row] = path[: len(sentences[row])]
    return paths


def negative_log_likelihood(sentences: Logits, tags: Sequence[Sequence[int]], chain: Chain | None) -> float:
    """Summed over all sentences."""
    total = 0.0
    field = None if chain is None else _field(chain)
    for rows, logits, mask in _batches(sentences):
        truth = torch.zeros(mask.shape, dtype=torch.long)
        for index, row in enumerate(rows):
            truth[index, : len(tags[row])] = torch.tensor(tags[row], dtype=torch.long)
        with torch.inference_mode():
            if field is not None:
                total -= float(field(logits, truth, mask, reduction="none").double().sum())
            else:
                losses = functional.cross_entropy(logits.transpose(1, 2), truth, reduction="none")
                total += float((losses * mask).double().sum())
    return total


def confidences(
    sentences: Logits, paths: Sequence[Sequence[int]], chain: Chain | None, labels: Sequence[str]
) -> list[list[float]]:
    """The probability of every word's tag: its marginal among all legal sequences, or by itself without a field."""
    found: list[list[float]] = [[] for _ in sentences]
    for rows, logits, mask in _batches(sentences):
        scores = logits if chain is None else _marginal_scores(logits, mask, chain, labels)
        tags = torch.zeros(mask.shape, dtype=torch.long)
        for index, row in enumerate(rows):
            tags[index, : len(paths[row])] = torch.tensor(paths[row], dtype=torch.long)
        chosen = scores.softmax(dim=2).gather(2, tags[:, :, None])[:, :, 0].tolist()
        for row, of_words in zip(rows, chosen, strict=True):
            found[row] = of_words[: len(sentences[row])]
    return found


def _marginal_scores(logits: torch.Tensor, mask: torch.Tensor, chain: Chain, labels: Sequence[str]) -> torch.Tensor:
    """Logarithms of the words' marginals, up to a constant for each word (forward-backward); as `logits`."""
    no_start, no_step = illegal_transitions(tuple(labels))
    start, step = chain.start.masked_fill(no_start, FORBIDDEN), chain.step.masked_fill(no_step, FORBIDDEN)
    words = logits.shape[1]
    forward = [start + logits[:, 0]]
    for word in range(1, words):
        forward.append(torch.logsumexp(forward[-1][:, :, None] + step, dim=1) + logits[:, word])
    backward = [chain.end.expand_as(logits[:, 0])]
    for word in range(words - 1, 0, -1):
        following = torch.logsumexp(step + (logits[:, word] + backward[-1])[:, None, :], dim=2)
        backward.append(torch.where(mask[:, word, None], following, chain.end))
    return torch.stack(forward, dim=1) + torch.stack(backward[::-1], dim=1)


def _field(chain: Chain) -> CRF:
    field = CRF(len(chain.start), batch_first=True)
    parameters = {"start_transitions": chain.start, "transitions": chain.step, "end_transitions": chain.end}
    field.load_state_dict(parameters)
    return field


def _batches(sentences: Logits) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Rows of sentences of similar length, their logits [batch, words, labels] and mask; without those of no words."""
    order = sorted((row for row, logits in enumerate(sentences) if len(logits)), key=lambda row: -len(sentences[row]))
    start = 0
    while start < len(order):
        longest = len(sentences[order[start]])
        rows = order[start : start + max(1, WORDS_PER_BATCH // longest)]
        logits = torch.zeros(len(rows), longest, sentences[rows[0]].shape[1])
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for index, row in enumerate(rows):
            logits[index, : len(sentences[row])] = torch.from_numpy(sentences[row])
            mask[index, : len(sentences[row])] = True
        yield rows, logits, mask
        start += len(rows)
