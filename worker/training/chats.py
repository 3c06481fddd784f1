"""Chats as a model's own template writes them, and which characters of it the assistant wrote."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

# For models that have no template. It is saved with the tokenizer, so that programs write chats in the same way.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'].capitalize() + ':\\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\\n\\n' }}"
    "{% endfor %}"
    "{{ '### Assistant:\\n' if add_generation_prompt else '' }}"
)

Message = dict[str, Any]


class UnrenderableError(ValueError):
    """The template cannot write a chat; the message says why."""


@dataclass(frozen=True)
class Script:
    """A chat as text. `spans` are the characters to be learned; `opening` is how many lead up to the first of them."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Chat:
    """Messages as templates read them, and which of them are learned, by their position."""

    messages: tuple[Message, ...]
    learned: tuple[int, ...]
    tools: tuple[Any, ...] | None

    @classmethod
    def of(cls, messages: Sequence[Message], tools: str | None) -> "Chat":
        """From a canonical record."""
        learned = [
            place for place, message in enumerate(messages) if message["role"] == "assistant" and message["weight"] != 0
        ]
        called = None if tools is None else tuple(json.loads(tools))
        return cls(tuple(map(_as_templates_read, messages)), tuple(learned), called)


def _as_templates_read(message: Message) -> Message:
    """Without what is not there; arguments of calls as objects, as Transformers has them."""
    found: Message = {"role": message["role"], "content": message["content"] or ""}
    found |= {name: message[name] for name in ("name", "tool_call_id") if message[name] is not None}
    if message["tool_calls"] is not None:
        calls = json.loads(message["tool_calls"])
        for call in calls:
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
        found["tool_calls"] = calls
    return found


@dataclass(frozen=True)
class ChatWriter:
    """Writes chats with a tokenizer's template."""

    tokenizer: PreTrainedTokenizerBase

    def scripts(self, chat: Chat) -> list[Script]:
        """The chat as one text with all assistant messages, or as one text for each of them.

        The latter is for templates that write a message otherwise once others follow it (without its reasoning, say):
        every message is then learned behind the very text that the model will be given.

        Raises UnrenderableError.
        """
        turns = [self.turn(chat, place) for place in chat.learned]
        whole = self._write(chat, chat.messages)
        if all(whole.startswith(turn.text) for turn in turns):
            self._check(chat, whole)
            return [Script(whole[: turns[-1].spans[0][1]], tuple(turn.spans[0] for turn in turns))]
        self._check(chat, turns[-1].text)
        return turns

    def turn(self, chat: Chat, place: int, first: int = 0) -> Script:
        """One assistant message behind the messages before it, those before `first` left out but for the system's."""
        system = [message for message in chat.messages[:first] if message["role"] in ("system", "developer")]
        before = [*system, *chat.messages[first:place]]
        asked = self._write(chat, before, prompt=True)
        answered = self._write(chat, [*before, chat.messages[place]])
        start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(asked, answered, strict=False)))
        end = len(answered.rstrip())
        if end <= start:
            raise UnrenderableError(f"the chat template leaves out message {place + 1}, which is to be learned")
        return Script(answered[:end], ((start, end),))

    def turn_end(self) -> int | None:
        """The special token that ends an assistant's message; None where the template writes none."""
        try:
            chat = Chat(({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}), (1,), None)
            text = self.turn(chat, 1).text
        except UnrenderableError:
            return None
        last = self.tokenizer.encode(text, add_special_tokens=False)[-1:]
        return next((token for token in last if self._ends(token)), None)

    def _ends(self, token: int) -> bool:
        """Whether it is a special token, other than that of what is unknown."""
        added = self.tokenizer.added_tokens_decoder.get(token)
        special = added is not None and added.special and token != self.tokenizer.unk_token_id
        return special or token == self.tokenizer.eos_token_id

    def _write(self, chat: Chat, messages: Sequence[Message], *, prompt: bool = False) -> str:
        tools = None if chat.tools is None else list(chat.tools)
        if "developer" not in cast(str, self.tokenizer.chat_template):
            messages = [
                message | {"role": "system"} if message["role"] == "developer" else message for message in messages
            ]
        try:
            return cast(
                str,
                self.tokenizer.apply_chat_template(
                    list(messages), cast(Any, tools), tokenize=False, add_generation_prompt=prompt
                ),
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise UnrenderableError(f"the chat template refuses it: {str(error).strip()[:300]}") from error

    def _check(self, chat: Chat, written: str) -> None:
        """Raise UnrenderableError where something of the chat is not written, as templates do with roles not theirs."""
        for number, message in enumerate(chat.messages[: chat.learned[-1]], 1):
            content = message["content"].strip()
            if message["role"] != "assistant" and content not in written:
                raise UnrenderableError(f"the chat template leaves out message {number}, of role {message['role']!r}")
            for call in message.get("tool_calls", ()):
                if call["function"]["name"] not in written:
                    raise UnrenderableError(f"the chat template leaves out the tool call of message {number}")
        for tool in chat.tools or ():
            if tool["function"]["name"] not in written:
                raise UnrenderableError("the chat template has no place for tools")
