"""Records of text generation as windows of tokens: chats, completions of prompts, and plain texts."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from worker.training.blocks import Frame, Tokens, cut, encode_all
from worker.training.chats import Chat, ChatWriter, Script, UnrenderableError
from worker.training.completions import Learned, fit, mark
from worker.training.data import Records, plain_tokenizer
from worker.training.failures import UserError

Window = tuple[int, Learned]


def completion_windows(records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Window]:
    """A window for each record: the prompt as it is, directly followed by the completion and the end-of-text token."""
    prompts = records.column("prompt")
    texts = [prompt + completion for prompt, completion in zip(prompts, records.column("completion"), strict=True)]
    end, begin = cast(int, tokenizer.eos_token_id), cast("int | None", tokenizer.bos_token_id)
    found = encode_all(texts, plain_tokenizer(tokenizer), special=True)
    for record, (prompt, (text, encoding)) in enumerate(zip(prompts, found, strict=True)):
        yield record, fit(mark(encoding, [(len(prompt), len(text))], begin, end), max_length)


def chat_windows(records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Window]:
    """A window for each chat, or for each of the assistant's messages where the template or the length ask for it.

    Of a chat that is too long, every message of the assistant is learned behind as many whole messages before it as
    fit, from one of the user's on, and behind the system's.

    Raises UserError for a chat that the template cannot write.
    """
    writer = ChatWriter(tokenizer)
    backend = plain_tokenizer(tokenizer)
    begin = cast("int | None", tokenizer.bos_token_id)
    end = None if writer.turn_end() is not None else cast(int, tokenizer.eos_token_id)
    rows = records.column("row")

    def tokens(script: Script) -> Learned:
        return mark(backend.encode(script.text, add_special_tokens=False), script.spans, begin, end)

    def longest(chat: Chat, place: int) -> Learned:
        """The message behind as much of the chat as fits; cut where even the last question is too long."""
        users = [at for at, message in enumerate(chat.messages[:place]) if message["role"] == "user"]
        found = tokens(writer.turn(chat, place))
        for first in users[1:]:
            if len(found.ids) <= max_length:
                break
            found = replace(tokens(writer.turn(chat, place, first)), cut="context")
        return fit(found, max_length)

    chats = zip(records.column("messages"), records.column("tools"), strict=True)
    for record, (messages, tools) in enumerate(chats):
        chat = Chat.of(messages, tools)
        try:
            found = [tokens(script) for script in writer.scripts(chat)]
            if any(len(window.ids) > max_length for window in found):
                found = [longest(chat, place) for place in chat.learned]
        except UnrenderableError as error:
            param = {"train": "training_file"}.get(records.split, f"{records.split}_file")
            raise UserError(
                "chat_not_rendered",
                f"Row {rows[record]} of the {records.split} file {records.file.filename!r}: {error}. Use messages that "
                "the base model's template knows, or a base model whose template has them.",
                param,
                {"line": rows[record]},
            ) from error
        for window in found:
            yield record, window


def text_windows(
    records: Records, tokenizer: PreTrainedTokenizerBase, max_length: int, *, packing: bool
) -> Iterator[Window]:
    """Blocks of texts, each text with its end-of-text token. Blocks share one token: each token but the first of all
    is learned once."""
    frame = Frame.of(tokenizer)
    end = np.array([cast(int, tokenizer.eos_token_id)], dtype=np.int32)
    pieces: list[tuple[Tokens, Tokens]] = []
    for _, encoding in encode_all(records.column("text"), plain_tokenizer(tokenizer), special=False, offsets=False):
        ids = np.concatenate([frame.prefix, np.array(encoding.ids, dtype=np.int32), end])
        learned = np.ones(len(ids), dtype=np.int32)
        learned[: len(frame.prefix)] = 0
        pieces.append((ids, learned))
    for ids, learned, record in cut(pieces, max_length, packing=packing, overlap=1):
        yield record, Learned(ids, learned > 0)
