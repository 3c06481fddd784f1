"""Models that read one text and write another: encoder-decoders as they are, or two copies of an encoder.

An encoder is warm-started as Rothe et al. 2020 do (BERT2BERT): its weights begin both halves, and what a decoder has
besides, attention to the text that is read, begins from nothing. The decoder's output matrix is its embedding matrix.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    EncoderDecoderModel,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from app.catalog.model_types import WARM_STARTED
from app.datasets.languages import matching
from worker.protocol import Log
from worker.training.encoder import BaseModelFiles, load_weights, replaced_head
from worker.training.failures import UserError
from worker.training.written_texts import IGNORED, end_token

# Parameters of a warm-started model that no encoder has.
FRESH = ("decoder.cls.", "decoder.lm_head.", "decoder.generator_", "enc_to_dec_proj.")
CROSS_ATTENTION = ".crossattention."
WRITERS = ("ForConditionalGeneration", "MTModel", "EncoderDecoderModel")
# What a model was pretrained with and cannot write without; how texts are searched for is the job's to say.
TOKENS = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
)


def load_writer(base: BaseModelFiles, tell: Callable[[Log], None]) -> PreTrainedModel:
    """The base model as an encoder-decoder, in fp32."""
    warm = base.config.model_type in WARM_STARTED
    model = _warm_started(base) if warm else load_weights(base, AutoModelForSeq2SeqLM)
    if (log := replaced_head(base, kept=is_writer(base))) is not None:
        tell(log)
    if warm:
        tell(
            Log(
                f"Base model {base.id!r} only reads: its weights begin an encoder and a decoder, and the decoder's "
                "attention to the encoder is learned from nothing (Rothe et al. 2020).",
                data={"code": "warm_started", "parameters": model.num_parameters()},
            )
        )
    return model


def is_writer(base: BaseModelFiles) -> bool:
    """Whether the base writes texts as it is."""
    return base.has_head(*WRITERS)


def _warm_started(base: BaseModelFiles) -> PreTrainedModel:
    tokenizer = base.tokenizer
    start = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    end = end_token(tokenizer)
    if start is None or end is None:
        raise UserError(
            "base_model_without_text_tokens",
            f"The tokenizer of base model {base.id!r} lacks a token that begins texts (cls or bos) or one that ends "
            "them (sep or eos), which a decoder needs. Give it both.",
            "model",
        )
    encoder = load_weights(base, AutoModel, is_decoder=False, add_cross_attention=False)
    decoder = load_weights(base, AutoModelForCausalLM, is_decoder=True, add_cross_attention=True)
    for part in (encoder, decoder):
        part.config.name_or_path = ""  # it would stand in the artifact
    _set_aside_pooler(encoder)
    model = EncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in cast("tuple[Any, ...]", (model.config, cast(Any, model).generation_config)):
        config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = start, end, tokenizer.pad_token_id
    return model


def _set_aside_pooler(encoder: PreTrainedModel) -> None:
    """What sums up a text for a classifier is of no use here: its weights go into the artifact and are not trained."""
    pooler: torch.nn.Module | None = getattr(encoder, "pooler", None)
    for module in [] if pooler is None else list(pooler.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())


def is_fresh(parameter: str) -> bool:
    """Whether a parameter of a warm-started model begins from nothing; those of other models never do."""
    return CROSS_ATTENTION in parameter or parameter.startswith(FRESH)


def set_generation(
    model: PreTrainedModel, base: BaseModelFiles, max_new_tokens: int, search: Mapping[str, Any] | None
) -> None:
    """Have `model.generate` search as the job says: what it leaves open is Transformers' default and not the base's.

    Without `search` the model goes on as it is; where it has no length of its own, it is `max_new_tokens`.
    """
    own = cast(GenerationConfig, cast(Any, model).generation_config)
    tokens: dict[str, Any] = {name: getattr(own, name, None) for name in TOKENS}
    for name in TOKENS[:4]:
        if tokens[name] is None:
            tokens[name] = getattr(model.config, name, None)
    if tokens["eos_token_id"] is None:
        tokens["eos_token_id"] = end_token(base.tokenizer)
    if tokens["decoder_start_token_id"] is None:
        raise UserError(
            "base_model_without_decoder_start",
            f"Base model {base.id!r} does not say which token its texts begin with. Add decoder_start_token_id to its "
            "config.json.",
            "model",
        )
    if search is None:
        for name in TOKENS[:4]:
            setattr(own, name, tokens[name])
        if own.max_new_tokens is None and own.max_length is None:
            own.max_new_tokens = max_new_tokens
        return
    cast(Any, model).generation_config = GenerationConfig(**tokens, max_new_tokens=max_new_tokens, **search)


def set_languages(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, languages: tuple[str | None, str | None]
) -> None:
    """Have a tokenizer with language codes mark what is read, and the model begin with the code of what it writes.

    Raises UserError (param `task`) where such a model was told no language, or one it has no code for.
    """
    if not hasattr(tokenizer, "src_lang"):
        return
    codes = sorted(set(_language_tokens(tokenizer)))
    known = [language_of(code) for code in codes]
    # A tokenizer that was never told what to write says English of what it reads, whether that is true or not.
    trusted = getattr(tokenizer, "tgt_lang", None) is not None
    for attribute, option, asked in zip(
        ("src_lang", "tgt_lang"), ("source_language", "target_language"), languages, strict=True
    ):
        own: str | None = getattr(tokenizer, attribute, None) if trusted else None
        setattr(tokenizer, attribute, _code(asked, own, option, known))
    target = cast(Any, tokenizer).tgt_lang
    token = next(code for code in codes if language_of(code) == target)
    place = cast(int, tokenizer.convert_tokens_to_ids(token))
    ids: list[int] = cast(Any, tokenizer)(text_target="a")["input_ids"]
    generation = cast(Any, model).generation_config
    if ids[0] == place:  # mBART-50, M2M100, NLLB: the first token that is written
        generation.forced_bos_token_id = place
    elif ids[-1] == place:  # mBART: what writing starts from
        generation.decoder_start_token_id = model.config.decoder_start_token_id = place


def _language_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    own = getattr(tokenizer, "lang_code_to_token", None) or getattr(tokenizer, "lang_code_to_id", None) or {}
    if own:
        return list(own.values()) if all(isinstance(value, str) for value in own.values()) else list(own)
    return [str(token) for token in cast(Any, tokenizer).all_special_tokens if _is_language_token(str(token))]


def _is_language_token(token: str) -> bool:
    """Whether a special token looks like the code of a language: `en_XX`, `eng_Latn`, `__en__`."""
    return token.isascii() and token[:1] != "<" and token.strip("_").replace("_", "").isalnum() and "_" in token


def language_of(token: str) -> str:
    """The code without M2M100's underscores."""
    return token[2:-2] if token.startswith("__") and token.endswith("__") else token


def _code(asked: str | None, own: str | None, option: str, known: Sequence[str]) -> str:
    if asked is None and own is not None:
        return own
    found = [] if asked is None else matching(asked, known)
    if len(found) == 1:
        return found[0]
    said = (
        f"{option} is {asked!r}, which stands for {', '.join(found)}"
        if found
        else (f"{option} is {asked!r}, for which it has no code" if asked else f"{option} is missing")
    )
    raise UserError(
        "language_unknown",
        f"The base model marks texts with codes of languages, and {said}. Give one of: {', '.join(known[:60])}"
        f"{' …' if len(known) > 60 else ''}.",
        f"task.{option}",
        {"allowed": list(known)},
    )


def labels_of(model: PreTrainedModel, labels: torch.Tensor) -> torch.Tensor:
    """Targets [batch, tokens] without the token that writing starts from, which some tokenizers put before them."""
    generation = cast(Any, model).generation_config
    start = generation.decoder_start_token_id
    if labels.shape[1] > 1 and start != generation.eos_token_id and bool((labels[:, 0] == start).all()):
        return labels[:, 1:]
    return labels


def decoder_inputs(model: PreTrainedModel, labels: torch.Tensor) -> torch.Tensor:
    """What the decoder sees while it learns `labels`: the same, one place later, in the model's own way."""
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        return shift(labels)
    generation = cast(Any, model).generation_config
    shifted = labels.roll(1, dims=1)
    shifted[:, 0] = generation.decoder_start_token_id
    return shifted.masked_fill(shifted == IGNORED, generation.pad_token_id)


def beams_of(model: PreTrainedModel) -> int:
    """Beginnings that it goes on with at once."""
    return int(cast(Any, model).generation_config.num_beams or 1)


def vocabulary_size(model: PreTrainedModel) -> int:
    """Tokens that the model chooses among."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


def unwrapped(model: torch.nn.Module) -> PreTrainedModel:
    """The model within what spreads it over devices."""
    inner = getattr(model, "module", model)
    assert isinstance(inner, PreTrainedModel)
    assert isinstance(inner, GenerationMixin)
    return inner
