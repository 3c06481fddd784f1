"""The base model: a Transformers directory, opened without running any code of it and without unpickling anything."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import transformers
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from app.model_files.tokenizers import SENTENCEPIECE_TOKENIZERS
from worker.protocol import Log
from worker.training.adapter_files import whole_model
from worker.training.failures import UserError, failure_of

# Positions of these are counted from padding_idx + 1, so the first ones are never reached.
OFFSET_POSITIONS = ("camembert", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")
# How the classes of Transformers name what they put on the body to classify texts or tokens.
CLASSIFIERS = (
    "classifier.",
    "pre_classifier.",
    "pooler.",
    "score.",
    "head.",
    "logits_proj.",
    "sequence_summary.",
    "crf.",
)
# What a configuration says of a head that brings its own code; no such code is run, and ours is put on anew.
OF_HEADS_WITH_CODE = ("auto_map", "custom_pipelines", "crf_window")
# Heads that pretraining leaves behind; nobody misses them.
PRETRAINING_HEADS = ("ForMaskedLM", "ForPreTraining", "LMHeadModel", "ForCausalLM", "Model")
HALVES = ("encoder", "decoder")  # configurations that an encoder-decoder of two models consists of
UNBOUNDED_WINDOW = 512  # `auto` for a model with relative positions, whose own window has no end


@dataclass(frozen=True)
class BaseModelFiles:
    """An opened base model: its tokenizer and configuration; weights are read by the task, which knows the head."""

    id: str
    directory: Path
    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    window_limit: int | None  # tokens; None: no limit
    loading: Mapping[str, Any] = field(default_factory=dict[str, Any])  # further arguments of `from_pretrained`

    @property
    def window(self) -> int:
        """Tokens in one window when the job does not say."""
        return self.window_limit or UNBOUNDED_WINDOW

    def has_head(self, *suffixes: str) -> bool:
        """Whether it was saved with a head of one of these kinds, say `ForSequenceClassification`."""
        return any(name.endswith(suffixes) for name in self.config.architectures or [])


def open_base(id_: str, directory: Path, model_types: frozenset[str], *, words: bool = False) -> BaseModelFiles:
    """Open configuration and tokenizer. Raises UserError (param `model`) for what cannot be trained.

    `words`: texts will come split into words. An adapter is merged into the model that it lies on first.
    """
    directory = _merged(id_, directory)
    config_path = directory / "config.json"
    try:
        model_type = json.loads(config_path.read_text("utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            "base_model_unreadable",
            f"Base model {id_!r} has no readable config.json with a model_type ({type(error).__name__}). "
            "It must be a Transformers directory as save_pretrained() writes it.",
            "model",
        ) from error
    if model_type not in model_types:
        raise UserError(
            "base_model_does_not_fit_task",
            f"Base model {id_!r} is of type {model_type!r}, which cannot be fine-tuned for this task. "
            f"Types that can: {', '.join(sorted(model_types))}.",
            "model",
            {"allowed": sorted(model_types)},
        )
    if not list(directory.glob("*.safetensors")):
        weights = sorted(path.name for path in directory.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".h5"))
        raise UserError(
            "base_model_not_safetensors",
            f"Base model {id_!r} has no *.safetensors file (found: {', '.join(weights) or 'no weights'}). Other "
            "formats can run code when they are read. Convert it: load it where you trust it, then save_pretrained().",
            "model",
        )
    try:
        config = cast(PreTrainedConfig, AutoConfig.from_pretrained(directory, trust_remote_code=False))
        tokenizer = cast(
            PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False)
        )
    except Exception as error:  # whatever Transformers makes of a broken directory, the owner has to mend it
        raise UserError(
            "base_model_unreadable", f"Base model {id_!r} cannot be read: {str(error).strip()[:500]}", "model"
        ) from error
    fast = bool(getattr(tokenizer, "is_fast", False))
    if not fast and model_type not in SENTENCEPIECE_TOKENIZERS:
        raise UserError(
            "base_model_without_fast_tokenizer",
            f"Base model {id_!r} has no fast tokenizer (tokenizer.json). Convert it: "
            "AutoTokenizer.from_pretrained(model, use_fast=True).save_pretrained(directory).",
            "model",
        )
    for name in OF_HEADS_WITH_CODE:
        if hasattr(config, name):
            delattr(config, name)
    if words:
        tokenizer = _for_words(tokenizer, directory)
    _complete_padding(id_, config, tokenizer)
    _drop_segments(config, tokenizer)
    # A tokenizer file may carry a truncation of its own; saved with our model it would cut other programs' texts.
    if fast:
        backend = cast(Tokenizer, tokenizer.backend_tokenizer)
        backend.no_truncation()
        backend.no_padding()
    return BaseModelFiles(id_, directory, config, tokenizer, _window_limit(config, tokenizer))


def _merged(id_: str, directory: Path) -> Path:
    try:
        return whole_model(directory)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if failure_of(error).kind == "resource_error":
            raise
        reason = str(error).strip()[:500]
        raise UserError(
            "base_model_unreadable", f"Model {id_!r} cannot be merged into what it belongs on: {reason}", "model"
        ) from error


def _for_words(tokenizer: PreTrainedTokenizerBase, directory: Path) -> PreTrainedTokenizerBase:
    """Byte-level vocabularies have ` word` and `word`: without the space, every word would look like a word's end."""
    if not _lacks_space(tokenizer):
        return tokenizer
    spaced = cast(
        PreTrainedTokenizerBase,
        AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False, add_prefix_space=True),
    )
    if _lacks_space(spaced):  # a class that keeps its file's own rule; the changed file is what will be saved
        cast(Tokenizer, spaced.backend_tokenizer).pre_tokenizer = ByteLevel(add_prefix_space=True)
    return spaced


def _lacks_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    rule = cast(Tokenizer, tokenizer.backend_tokenizer).pre_tokenizer
    return isinstance(rule, ByteLevel) and not rule.add_prefix_space


def replaced_head(base: BaseModelFiles, *, kept: bool) -> Log | None:
    """What to tell of a fine-tuned base model whose head a new one takes the place of; None where nothing is lost."""
    trained = [name for name in base.config.architectures or [] if not name.endswith(PRETRAINING_HEADS)]
    if kept or not trained:
        return None
    labels = [str(label) for _, label in sorted((base.config.id2label or {}).items())]
    of = f" with the labels {', '.join(map(repr, labels[:10]))}{' …' if len(labels) > 10 else ''}" if labels else ""
    message = f"The base model's head ({trained[0]}{of}) does not fit this task; a new one is trained on the same body."
    return Log(message, data={"code": "head_replaced", "architecture": trained[0], "labels": labels[:100]})


def _complete_padding(id_: str, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Decoder-only models come without a padding token; their last token doubles for it, as is usual."""
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(
                "base_model_without_padding",
                f"The tokenizer of base model {id_!r} has neither a padding nor an end-of-sequence token. Give it one.",
                "model",
            )
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id


def _drop_segments(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """A body with one segment, as RoBERTa's, has none for the second text of a pair, whatever its tokenizer says."""
    if getattr(config, "type_vocab_size", 2) < 2:
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # what is saved of it


def _window_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    halves = [half for name in HALVES if isinstance(half := getattr(config, name, None), PreTrainedConfig)]
    limits = [_positions(part) for part in halves or [config]] + [tokenizer.model_max_length]
    known = [limit for limit in limits if limit is not None and limit < 10**9]
    return min(known) if known else None


def _positions(config: PreTrainedConfig) -> int | None:
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None  # -1 is written for relative positions
    if config.model_type in OFFSET_POSITIONS:
        # MPNet's padding_idx is 1 whatever its padding token is.
        positions -= 1 + (1 if config.model_type == "mpnet" else cast(int, config.pad_token_id))
    return positions


def check_max_length(max_length: int, base: BaseModelFiles, param: str = "hyperparameters.max_length") -> None:
    """Refuse a window that the model has no positions for. `param` is what asks for it."""
    if base.window_limit is not None and max_length > base.window_limit:
        raise UserError(
            "max_length_too_long",
            f"{param} is {max_length}, but base model {base.id!r} reads at most {base.window_limit} tokens. "
            f"Ask for {base.window_limit} or less, or leave it out.",
            param,
            {"allowed": base.window_limit},
        )


def load_weights(base: BaseModelFiles, auto_class: Any, **config_changes: Any) -> PreTrainedModel:
    """The model of `auto_class` in fp32. A head that does not fit is initialised from torch's generator."""
    try:
        return auto_class.from_pretrained(
            base.directory,
            config=base.config.__class__.from_dict(base.config.to_dict() | config_changes),
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            **base.loading,
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if failure_of(error).kind == "resource_error":
            raise
        raise UserError(
            "base_model_unreadable",
            f"The weights of base model {base.id!r} cannot be read: {str(error).strip()[:500]}",
            "model",
        ) from error


def trained_head(base: BaseModelFiles, suffix: str, task: str) -> list[str]:
    """Names of the outputs of the model's own head, in the order of their ids. Raises UserError where it has none."""
    if not base.has_head(suffix):
        found = ", ".join(base.config.architectures or []) or "none"
        raise UserError(
            "model_has_no_head",
            f"Model {base.id!r} has no head for {task} that could be evaluated (its architecture: {found}). Fine-tune "
            "it for the task first, and evaluate the result.",
            "model",
        )
    return head_labels(base, suffix)


def head_labels(base: BaseModelFiles, suffix: str) -> list[str]:
    """Names of the outputs of the base's head `suffix` in the order of their ids; empty where it has none."""
    if not base.has_head(suffix):
        return []
    return [str(label) for _, label in sorted((base.config.id2label or {}).items())]


def read_weights(model: PreTrainedModel, directory: Path) -> None:
    """Put a Transformers directory's weights into `model`, in place. Raises RuntimeError naming missing ones."""
    loaded: Any = type(model).from_pretrained(
        directory, dtype="float32", use_safetensors=True, trust_remote_code=False, output_loading_info=True
    )
    saved, info = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    if info["missing_keys"]:
        raise RuntimeError(f"{directory} has no weights for: {', '.join(sorted(info['missing_keys']))}")
    model.load_state_dict(saved.state_dict())


def take_over(model: PreTrainedModel, directory: Path) -> None:
    """Put the weights in `directory` into `model`: all of them if it is of that class, else the body wherever it is.

    An encoder-decoder of two encoders has the body twice. What the body in `directory` lacks, as a pooler, stays.
    """
    name = json.loads((directory / "config.json").read_text("utf-8"))["architectures"][0]
    if name == type(model).__name__:
        read_weights(model, directory)
        return
    trained: PreTrainedModel = getattr(transformers, name).from_pretrained(
        directory, dtype="float32", use_safetensors=True, trust_remote_code=False
    )
    body = trained.base_model
    places = [module for module in model.modules() if type(module) is type(body)]
    if not places:
        raise RuntimeError(f"{type(model).__name__} has no {type(body).__name__} to take the weights of {directory}")
    for place in places:
        place.load_state_dict(body.state_dict(), strict=False)
