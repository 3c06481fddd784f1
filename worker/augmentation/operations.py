"""The operations of a job, ready to change passages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from app.catalog.adaptation.augmentation import (
    AnyOperation,
    AugmentationOptions,
    BackTranslation,
    ContextualSubstitution,
    Deletion,
    Insertion,
    MentionReplacement,
    Swap,
    SynonymReplacement,
    TranslationModel,
    model_key,
)
from worker.augmentation.back_translation import Translator, there_and_back
from worker.augmentation.contextual import MaskedModel
from worker.augmentation.edits import Generator, delete, insert, replace_synonyms, swap
from worker.augmentation.forms import Form
from worker.augmentation.lexicon import Lexicon, Synonyms, WordNet
from worker.augmentation.mentions import Mentions
from worker.augmentation.passages import Passage
from worker.augmentation.protection import Protection
from worker.training.data import Records
from worker.training.failures import UserError
from worker.training.materials import Materials
from worker.training.watch import Watch

# Passages with a generator each become as many others; the number of the part of the file keeps draws apart.
Apply = Callable[[Sequence[Passage], Sequence[Generator], int], list[Passage]]
Edit = Callable[[Passage, Generator], Passage]


@dataclass(frozen=True)
class Workshop:
    """What operations are made of: the records, the form they have, and what goes with the run."""

    options: AugmentationOptions
    materials: Materials
    train: Records
    form: Form
    watch: Watch

    def operations(self) -> list[Apply]:
        """Those of the job, in its order. Raises UserError for what is missing, naming the operation."""
        return [self._ready(number, asked) for number, asked in enumerate(self.options.operations)]

    def _ready(self, number: int, asked: AnyOperation) -> Apply:
        protection = Protection.of(self.options.protected_words)
        match asked:
            case SynonymReplacement():
                synonyms = self._synonyms()
                return self._each(lambda p, g: replace_synonyms(p, asked.rate, synonyms, protection, g))
            case Insertion():
                synonyms = self._synonyms()
                return self._each(lambda p, g: insert(p, asked.rate, synonyms, protection, g))
            case Swap():
                return self._each(lambda p, g: swap(p, asked.rate, g))
            case Deletion():
                return self._each(lambda p, g: delete(p, asked.rate, protection, g))
            case MentionReplacement():
                mentions = self._mentions(number)
                return self._each(lambda p, g: mentions.replace(p, asked.rate, g))
            case ContextualSubstitution():
                model = self._masked_model(number, asked)
                return lambda passages, generators, _: model.substitute(
                    passages, generators, asked, protection, self.watch
                )
            case BackTranslation():
                to = self._translator(number, "to", asked.to, asked)
                back = self._translator(number, "back", asked.back, asked)
                return partial(self._translated, to, back, asked.temperature is not None)

    def _each(self, edit: Edit) -> Apply:
        def apply(passages: Sequence[Passage], generators: Sequence[Generator], _: int) -> list[Passage]:
            self.watch.check()
            found = [
                edit(passage, generator) if passage.words else passage
                for passage, generator in zip(passages, generators, strict=True)
            ]
            self.watch.add(len(passages))
            return found

        return apply

    def _translated(
        self,
        to: Translator,
        back: Translator,
        draws: bool,
        passages: Sequence[Passage],
        generators: Sequence[Generator],
        part: int,
    ) -> list[Passage]:
        found = there_and_back(passages, to, back, seed=self.materials.seed + part if draws else None)
        self.watch.add(len(passages))
        return found

    def _synonyms(self) -> Synonyms:
        file = self.materials.files_of("augmentation").get("lexicon_file")
        return WordNet() if file is None else Lexicon.of_records(file)

    def _mentions(self, number: int) -> Mentions:
        if self.form.tags is None:
            raise UserError(
                "mentions_need_tags",
                f"adaptation.augmentation.operations.{number} is mention_replacement, which exchanges entities, but "
                "records of this task have no tagged words. Use it with the task token-classification, or leave it "
                "out.",
                f"adaptation.augmentation.operations.{number}",
            )
        names = (*self.form.fields, self.form.tags)
        rows = zip(*(self.train.column(name) for name in names), strict=True)
        return Mentions.of(
            self.form.passages(dict(zip(names, row, strict=True)), self.options.language)[names[0]] for row in rows
        )

    def _masked_model(self, number: int, asked: ContextualSubstitution) -> MaskedModel:
        base = self.materials.base
        key = model_key(number, "model")
        own = self.materials.models_of("augmentation").get(key)
        directory, id_ = (base.directory, base.id) if own is None or asked.model is None else (own, asked.model)
        with _Blamed(key):
            return MaskedModel.open(directory, id_, device())

    def _translator(self, number: int, part: str, asked: TranslationModel, search: BackTranslation) -> Translator:
        key = model_key(number, f"{part}.model")
        directory = self.materials.models_of("augmentation")[key]
        doing = "translating" if part == "to" else "translating back"
        with _Blamed(key):
            return Translator.open(directory, asked, search, device(), doing, self.materials)


class _Blamed:
    """Errors about a model are about the option that names it."""

    def __init__(self, key: str) -> None:
        self._param = f"adaptation.augmentation.{key}"

    def __enter__(self) -> None:
        """Nothing to do before."""

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Name the option in an error of the user's."""
        if isinstance(error, UserError):
            error.param = self._param


def device() -> torch.device:
    """Where models run that make records."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
