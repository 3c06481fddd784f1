"""Back-translation: texts go into another language and come back as others would say them (Sennrich et al. 2016).

Words with tags keep their entities: stretches outside of them are translated, each by itself (Yaseen & Langer 2021).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import rjieba
import torch

from app.catalog.adaptation.augmentation import BackTranslation, TranslationModel
from app.catalog.plan import DataFile
from app.catalog.tasks import TASKS
from app.catalog.translation import TranslationOptions
from worker.augmentation.passages import OUTSIDE, Passage, Word, passage_of
from worker.tasks.sequence_to_sequence import SequenceToSequence
from worker.training.data import Records
from worker.training.encoder import BaseModelFiles, open_base
from worker.training.evaluation import predict
from worker.training.materials import Materials
from worker.training.preprocessing import apply, of_artifact
from worker.training.written_texts import decode_texts

SHORTEST_STRETCH = 3  # words outside of entities that are worth translating
WORDS_AND_MARKS = re.compile(r"\w+(?:[-'\u2019]\w+)*|[^\w\s]")
SPEC = TASKS["translation"]


@dataclass(frozen=True)
class Translator:
    """A model that translates, on its device; `doing` is what its work is called."""

    base: BaseModelFiles
    asked: TranslationModel
    model: Any
    device: torch.device
    doing: str
    materials: Materials

    @classmethod
    def open(
        cls,
        directory: Path,
        asked: TranslationModel,
        search: BackTranslation,
        device: torch.device,
        doing: str,
        materials: Materials,
    ) -> "Translator":
        """The model in a directory. Raises UserError for one that does not translate, or lacks a language."""
        base = open_base(asked.model, directory, SPEC.model_types)
        model: Any = _task(base, asked, _records([""])).load_model(base, materials.emit)
        config = model.generation_config
        if search.temperature is None:
            config.num_beams = search.num_beams
        else:
            config.num_beams, config.do_sample, config.temperature, config.top_k = 1, True, search.temperature, 0
            config.early_stopping, config.length_penalty = False, 1.0  # of beams only
        return cls(base, asked, model.to(device), device, doing, materials)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The translations, in the order of the texts. Raises StoppedError."""
        variant = SPEC.variants[0]
        records = apply(of_artifact(self.base.directory), _records(texts), SPEC, variant)
        task = _task(self.base, self.asked, records)
        examples = task.encode(records, self.base.tokenizer, self.base.window)
        stop, emit = self.materials.stop, self.materials.emit
        written = predict(task, self.model, self.device, records, examples, stop, emit, self.doing)
        return decode_texts([one.tokens for one in written], self.base.tokenizer)


def _task(base: BaseModelFiles, asked: TranslationModel, records: Records) -> SequenceToSequence:
    options = TranslationOptions(
        source_language=asked.source_language,
        target_language=asked.target_language,
        source_prefix=asked.source_prefix,
    )
    return SequenceToSequence.from_artifact(options, base, records, seed=0)


def _records(texts: Sequence[str]) -> Records:
    """Texts as records to translate; what they are compared with is of no interest."""
    table = pa.table({"source": list(texts), "target": [""] * len(texts), "row": list(range(1, len(texts) + 1))})
    file = DataFile(path="", file_id="", filename="", sha256="", rows=len(texts))
    return Records("train", file, table)


def there_and_back(passages: Sequence[Passage], to: Translator, back: Translator, *, seed: int | None) -> list[Passage]:
    """The passages as they come back. With a seed each translation is drawn, else equal texts are translated once."""
    stretches = [stretches_of(passage) for passage in passages]
    texts = [_text(passage, *span) for passage, spans in zip(passages, stretches, strict=True) for span in spans]
    if not texts:
        return list(passages)
    with torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
            came = back(to(texts))
        else:
            different = list(dict.fromkeys(texts))
            known = dict(zip(different, back(to(different)), strict=True))
            came = [known[text] for text in texts]
    left = iter(came)
    return [
        _with_stretches(passage, spans, [next(left) for _ in spans])
        for passage, spans in zip(passages, stretches, strict=True)
    ]


def stretches_of(passage: Passage) -> list[tuple[int, int]]:
    """First word and end of what is translated: all of a text; of tagged words the longer stretches without a tag."""
    words = passage.words
    if not passage.is_tagged:
        return [(0, len(words))] if words else []
    found: list[tuple[int, int]] = []
    start = 0
    for place in range(len(words) + 1):
        if place == len(words) or words[place].tag != OUTSIDE:
            if sum(word.is_free for word in words[start:place]) >= SHORTEST_STRETCH:
                found.append((start, place))
            start = place + 1
    return found


def _text(passage: Passage, start: int, end: int) -> str:
    if not passage.is_tagged:
        return passage.text
    return passage.glue.join(word.text for word in passage.words[start:end])


def _with_stretches(passage: Passage, spans: Sequence[tuple[int, int]], texts: Sequence[str]) -> Passage:
    if not passage.is_tagged:
        (text,) = texts or [passage.text]
        return passage_of(text, passage.language) if text.strip() else passage
    words = list(passage.words)
    for (start, end), text in reversed(list(zip(spans, texts, strict=True))):
        if new := _tokens(passage, text):
            before = [words[start].before, *[passage.glue] * (len(new) - 1)]
            words[start:end] = [Word(token, glue) for token, glue in zip(new, before, strict=True)]
    return passage.with_words(words)


def _tokens(passage: Passage, text: str) -> list[str]:
    """A translation as tokens like those of the passage."""
    if passage.glue:
        return WORDS_AND_MARKS.findall(text)
    if len(whole := passage.cut(text)) > 1:
        return whole
    return [token for token in rjieba.cut(text) if token.strip()]
