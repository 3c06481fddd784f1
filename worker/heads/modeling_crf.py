"""A token classifier with a linear-chain conditional random field (Lafferty, McCallum & Pereira 2001) on top.

Self-contained: it needs torch and transformers, and lies beside the weights of every model that has such a head.

    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline
    model = AutoModelForTokenClassification.from_pretrained(directory, trust_remote_code=True)
    model.tag([["Ada", "Lovelace", "was", "born", "in", "London"]], AutoTokenizer.from_pretrained(directory))

The field runs over words: each is represented by its first piece. At decoding, sequences that are no IOB2 are excluded.
"""

import re
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING, Pipeline, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

FORBIDDEN = -1e4  # far below any score, and still a number in fp32 after thousands of words
STRIDE = 4  # windows of a text that is too long share a quarter


# The mixin stands before a model's own class, which is a PreTrainedModel.
Body = PreTrainedModel if TYPE_CHECKING else object


class LinearChain(nn.Module):
    """Scores of the first tag, of one tag after another, and of the last; [labels], [labels, labels], [labels]."""

    def __init__(self, num_tags: int) -> None:
        super().__init__()
        self.start_transitions = nn.Parameter(torch.empty(num_tags))
        self.end_transitions = nn.Parameter(torch.empty(num_tags))
        self.transitions = nn.Parameter(torch.empty(num_tags, num_tags))


@cache
def illegal_transitions(tags: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Where IOB2 forbids to begin with a tag [labels], and to go from one tag to another [labels, labels]."""
    inside = torch.tensor([tag.startswith("I-") for tag in tags])
    same = torch.tensor([[before[:2] in ("B-", "I-") and before[2:] == tag[2:] for tag in tags] for before in tags])
    return inside, inside[None, :] & ~same


def viterbi(
    emissions: torch.Tensor, mask: torch.Tensor, start: torch.Tensor, transitions: torch.Tensor, end: torch.Tensor
) -> torch.Tensor:
    """The best path of every row (Viterbi 1967): emissions [batch, words, labels], mask and result [batch, words].

    The first word of every row is there (`mask[:, 0]`), and the words that are follow one another. Where the mask is
    off, the result repeats the last tag.
    """
    score = start + emissions[:, 0]
    back: list[torch.Tensor] = []
    stay = torch.arange(emissions.shape[2], device=emissions.device).expand_as(score)
    for word in range(1, emissions.shape[1]):
        best, origin = (score[:, :, None] + transitions).max(dim=1)
        here = mask[:, word, None]
        score = torch.where(here, best + emissions[:, word], score)
        back.append(torch.where(here, origin, stay))
    tags = [(score + end).argmax(dim=1)]
    for origin in reversed(back):
        tags.append(origin.gather(1, tags[-1][:, None])[:, 0])
    return torch.stack(tags[::-1], dim=1)


class CrfMixin(Body):
    """Adds the field to a token classifier of any family; its parameters are `crf.*` beside the family's own."""

    config: Any
    chain_class: type[nn.Module] = LinearChain

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.crf = self.chain_class(config.num_labels)
        self.reset_chain()

    def reset_chain(self) -> None:
        """Small random scores, as pytorch-crf starts with."""
        for parameter in self.crf.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, self.chain_class):
            self.reset_chain()
        else:
            super()._init_weights(module)

    def forward(self, *args: Any, words: torch.Tensor | None = None, **kwargs: Any) -> TokenClassifierOutput:
        """Logits of tokens; with `words` [batch, words], the places of their first pieces or -1, those of words."""
        output = super().forward(*args, **kwargs)
        if words is None:
            return output
        places = words.clamp(min=0)[:, :, None].expand(-1, -1, output.logits.shape[2])
        return TokenClassifierOutput(logits=output.logits.gather(1, places).float())

    def _field(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Start, transition and end scores in fp32, with what is no IOB2 excluded."""
        no_start, no_step = illegal_transitions(tuple(self.config.id2label[i] for i in range(self.config.num_labels)))
        chain: Any = self.crf
        scores = (chain.start_transitions, chain.transitions, chain.end_transitions)
        start, step, end = (score.detach().float().to(device) for score in scores)
        return start.masked_fill(no_start.to(device), FORBIDDEN), step.masked_fill(no_step.to(device), FORBIDDEN), end

    @torch.inference_mode()
    def emissions(self, words: Sequence[str], tokenizer: Any) -> torch.Tensor:
        """Logits of the words of a sentence [words, labels]; one that is longer than the window is read in several."""
        windows, owned = word_windows(words, tokenizer, self.config.crf_window)
        batch = tokenizer.pad(windows, return_tensors="pt").to(self.device)
        begins = batch["attention_mask"].argmax(dim=1)  # 0, unless padding stands on the left
        found = torch.empty(len(words), self.config.num_labels)
        model: Any = self
        logits = model(**batch).logits.float().cpu()
        for window, places in enumerate(owned):
            for word, place in places:
                found[word] = logits[window, place + begins[window]]
        return found

    def tag(self, sentences: Sequence[Sequence[str]], tokenizer: Any) -> list[list[str]]:
        """The tags of sentences that are split into words."""
        return [[tag for tag, _ in self.tag_with_scores(words, tokenizer)] for words in sentences]

    @torch.inference_mode()
    def tag_with_scores(self, words: Sequence[str], tokenizer: Any) -> list[tuple[str, float]]:
        """The tags of a sentence, each with its marginal probability among all legal sequences."""
        if not words:
            return []
        emissions = self.emissions(words, tokenizer)
        start, step, end = self._field(emissions.device)
        mask = torch.ones(1, len(words), dtype=torch.bool)
        ids = viterbi(emissions[None], mask, start, step, end)[0]
        forward, backward = [start + emissions[0]], [end]
        for row in emissions[1:]:
            forward.append(torch.logsumexp(forward[-1][:, None] + step, dim=0) + row)
        for row in emissions.flip(0)[:-1]:
            backward.append(torch.logsumexp(step + row + backward[-1], dim=1))
        marginals = torch.stack([a + b for a, b in zip(forward, backward[::-1], strict=True)]).softmax(dim=1)
        scores = marginals.gather(1, ids[:, None])[:, 0].tolist()
        return [(self.config.id2label[index], score) for index, score in zip(ids.tolist(), scores, strict=True)]


def word_windows(
    words: Sequence[str], tokenizer: Any, max_length: int
) -> tuple[list[dict[str, list[int]]], list[list[tuple[int, int]]]]:
    """A sentence in windows of at most `max_length` pieces, and which words each answers for, with their places."""

    def split(words: Sequence[str]) -> Any:
        return tokenizer(
            list(words),
            is_split_into_words=True,
            truncation=True,
            max_length=max_length,
            stride=max_length // STRIDE,
            return_overflowing_tokens=True,
        )

    encoded = split(words)
    pieces = [encoded.word_ids(index) for index in range(len(encoded["input_ids"]))]
    missing = set(range(len(words))).difference(*pieces)
    if missing:
        encoded = split(with_placeholders(words, missing, tokenizer))
        pieces = [encoded.word_ids(index) for index in range(len(encoded["input_ids"]))]
    names = [name for name in encoded if name in tokenizer.model_input_names]
    windows = [{name: encoded[name][index] for name in names} for index in range(len(pieces))]
    return windows, owned_words(first_pieces(pieces), [len(window) for window in pieces])


def with_placeholders(words: Sequence[str], missing: set[int], tokenizer: Any) -> list[str]:
    """The words with those that the tokenizer maps to nothing replaced by one that it does not."""
    placeholder = tokenizer.unk_token or tokenizer.eos_token or tokenizer.pad_token
    return [placeholder if index in missing else word for index, word in enumerate(words)]


def first_pieces(windows: Sequence[Sequence[int | None]]) -> list[list[tuple[int, int]]]:
    """Of each window's pieces, given by their words: the words whose first piece it has, and the places of these.

    Windows overlap, so the word that a later window begins with began in the one before.
    """
    found: list[list[tuple[int, int]]] = []
    for number, window in enumerate(windows):
        seen: dict[int, int] = {}
        for place, word in enumerate(window):
            if word is not None:
                seen.setdefault(word, place)
        places = list(seen.items())
        found.append(places[1:] if number else places)
    return found


def owned_words(windows: Sequence[Sequence[tuple[int, int]]], lengths: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Every word once, in the window that shows most of what stands around it."""
    best: dict[int, tuple[int, int, int]] = {}
    for number, window in enumerate(windows):
        for word, place in window:
            context = min(place, lengths[number] - 1 - place)
            if word not in best or context > best[word][0]:
                best[word] = (context, number, place)
    owned: list[list[tuple[int, int]]] = [[] for _ in windows]
    for word, (_, number, place) in sorted(best.items()):
        owned[number].append((word, place))
    return owned


@cache
def crf_class(config_class: type, mixin: type = CrfMixin) -> Any:
    """The token classifier of a family with the field on top."""
    family: Any = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING[config_class]
    return type(f"Crf{family.__name__}", (mixin, family), {"__module__": __name__})


class CrfForTokenClassification:
    """What `AutoModelForTokenClassification` finds: it loads the class of the configuration's family."""

    @classmethod
    def from_pretrained(cls, directory: Any, *args: Any, config: Any, **kwargs: Any) -> Any:
        """The model with its weights."""
        return crf_class(type(config)).from_pretrained(directory, *args, config=config, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """The directory names it already."""


# Scripts that put no spaces between words, such as Thai, Chinese and Japanese: each character is a word.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


class CrfPipeline(Pipeline):
    """`pipeline("token-classification", model=directory, trust_remote_code=True)`: entities with start and end.

    Takes texts, which it splits at spaces and punctuation, or lists of words (`is_split_into_words=True`).
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Entities of a text, or of each of several; of each sentence where words are given."""
        if kwargs.get("is_split_into_words") and inputs and isinstance(inputs[0], str):
            inputs = [inputs]
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, {}, {}

    def preprocess(self, input_: Any, **kwargs: Any) -> dict[str, Any]:
        """The words of a text, and where they stand."""
        inputs = input_
        text = inputs if isinstance(inputs, str) else " ".join(inputs)
        if isinstance(inputs, str):
            spans = [match.span() for match in WORD.finditer(text)]
        else:
            ends = list(accumulate((len(word) + 1 for word in inputs), initial=0))
            spans = [(start, start + len(word)) for start, word in zip(ends, inputs, strict=False)]
        return {"text": text, "spans": spans}

    def _forward(self, input_tensors: dict[str, Any], **kwargs: Any) -> Any:
        model: Any = self.model
        words = [input_tensors["text"][start:end] for start, end in input_tensors["spans"]]
        return input_tensors | {"tags": model.tag_with_scores(words, self.tokenizer)}

    def postprocess(self, model_outputs: dict[str, Any], **kwargs: Any) -> list[dict[str, Any]]:
        """Entities: their type, the mean probability of their words' tags, their text and place."""
        entities: list[dict[str, Any]] = []
        scores: list[list[float]] = []
        for (start, end), (tag, score) in zip(model_outputs["spans"], model_outputs["tags"], strict=True):
            if tag.startswith("B-"):
                entities.append({"entity_group": tag[2:], "start": start, "end": end})
                scores.append([score])
            elif tag.startswith("I-"):
                entities[-1]["end"] = end
                scores[-1].append(score)
        return [
            entity | {"score": sum(of) / len(of), "word": model_outputs["text"][entity["start"] : entity["end"]]}
            for entity, of in zip(entities, scores, strict=True)
        ]
