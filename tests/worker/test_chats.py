"""Chats as templates write them: what is learned, what is refused. The templates are written for this test after
those that models come with."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from worker.training.chats import PLAIN_TEMPLATE, Chat, ChatWriter, UnrenderableError

CHAT_ML = (
    "{% if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments.day }}</call>"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Reasoning of former turns is left out, as models that think have it.
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content if loop.last else message.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALTERNATING = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %} {{ message.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
USERS_ONLY = (
    "{% for message in messages %}{% if message.role in ('user', 'assistant') %}"
    "{{ message.role }}: {{ message.content }}\n{% endif %}{% endfor %}"
)


def writer(template: str) -> ChatWriter:
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 3}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|im_end|>"],
    )
    tokenizer.chat_template = template
    return ChatWriter(tokenizer)


def chat(*turns: tuple[str, str], tools: Any = None, weights: tuple[int, ...] = (), **further: Any) -> Chat:
    nothing = {"name": None, "weight": None, "tool_calls": None, "tool_call_id": None}
    messages = [nothing | {"role": role, "content": content} | further.get(role, {}) for role, content in turns]
    answers = [message for message in messages if message["role"] == "assistant"]
    for message, weight in zip(answers, weights, strict=False):
        message["weight"] = weight
    return Chat.of(messages, None if tools is None else json.dumps(tools))


TALK = (("system", "Be brief."), ("user", "Open?"), ("assistant", "Yes."), ("user", "Sure?"), ("assistant", "Quite."))


def learned(of: ChatWriter, said: Chat) -> list[list[str]]:
    return [[script.text[start:end] for start, end in script.spans] for script in of.scripts(said)]


def test_every_assistant_message_is_learned_with_its_end_and_nothing_else() -> None:
    (script,) = writer(CHAT_ML).scripts(chat(*TALK))
    assert [script.text[start:end] for start, end in script.spans] == ["Yes.<|im_end|>", "Quite.<|im_end|>"]
    assert script.text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nOpen?<|im_end|>\n")
    assert script.text.endswith("<|im_start|>assistant\nQuite.<|im_end|>")


def test_a_message_of_weight_0_is_read_and_not_learned() -> None:
    said = chat(*TALK, weights=(0, 1))
    assert learned(writer(CHAT_ML), said) == [["Quite.<|im_end|>"]]
    (script,) = writer(CHAT_ML).scripts(said)
    assert "Yes.<|im_end|>" in script.text
    assert learned(writer(CHAT_ML), chat(*TALK, ("user", "Bye."), weights=(1, 0))) == [["Yes.<|im_end|>"]]


def test_what_a_template_leaves_out_later_is_learned_behind_the_text_that_the_model_will_see() -> None:
    said = chat(("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c"), ("assistant", "<think>y</think>d"))
    first, second = writer(THINKING).scripts(said)
    assert [first.text[start:end] for start, end in first.spans] == ["<think>x</think>b<|im_end|>"]
    assert [second.text[start:end] for start, end in second.spans] == ["<think>y</think>d<|im_end|>"]
    assert "<think>x</think>" not in second.text


def test_the_plain_template_writes_roles_and_ends_what_the_assistant_says() -> None:
    (script,) = writer(PLAIN_TEMPLATE).scripts(chat(*TALK))
    assert script.text == (
        "### System:\nBe brief.\n\n### User:\nOpen?\n\n### Assistant:\nYes.</s>\n\n"
        "### User:\nSure?\n\n### Assistant:\nQuite.</s>"
    )
    assert [script.text[start:end] for start, end in script.spans] == ["Yes.</s>", "Quite.</s>"]


@pytest.mark.parametrize(("template", "token"), [(CHAT_ML, 3), (PLAIN_TEMPLATE, 2), (USERS_ONLY, None)])
def test_the_token_that_ends_a_message_is_found(template: str, token: int | None) -> None:
    assert writer(template).turn_end() == token


def test_a_developers_message_is_the_systems_where_the_template_knows_no_developer() -> None:
    (script,) = writer(CHAT_ML).scripts(chat(("developer", "Be brief."), *TALK[1:3]))
    assert script.text.startswith("<|im_start|>system\nBe brief.")


def test_tools_and_calls_are_written_by_the_template() -> None:
    tool = {"type": "function", "function": {"name": "hours", "parameters": {}}}
    call = [{"id": "1", "type": "function", "function": {"name": "hours", "arguments": '{"day": "Monday"}'}}]
    said = chat(
        ("user", "Open?"),
        ("assistant", ""),
        ("tool", "9 to 5"),
        tools=[tool],
        assistant={"tool_calls": json.dumps(call)},
    )
    assert learned(writer(CHAT_ML), said) == [["<call>hours Monday</call><|im_end|>"]]


@pytest.mark.parametrize(
    ("template", "said", "message"),
    [
        (ALTERNATING, chat(*TALK), "Roles must alternate"),
        (USERS_ONLY, chat(*TALK), "leaves out message 1, of role 'system'"),
        (USERS_ONLY, chat(("user", "a"), ("tool", "b"), ("assistant", "c")), "leaves out message 2, of role 'tool'"),
        (USERS_ONLY, chat(*TALK[1:3], tools=[{"function": {"name": "hours"}}]), "no place for tools"),
    ],
)
def test_what_a_template_cannot_write_is_refused_and_never_dropped(template: str, said: Chat, message: str) -> None:
    with pytest.raises(UnrenderableError, match=message):
        writer(template).scripts(said)


def test_a_turn_behind_a_part_of_the_chat_keeps_what_the_system_says() -> None:
    script = writer(CHAT_ML).turn(chat(*TALK), 4, 3)
    assert script.text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\nQuite.<|im_end|>"
    )
