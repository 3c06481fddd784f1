"""From chats as OpenAI writes them to canonical messages, and the functions that a chat may call."""

import difflib
import json
from typing import Any, TypedDict

from app.datasets.problems import listed, shown
from app.datasets.sequences import as_list
from app.datasets.values import MISSING, InvalidValueError, check_characters, kind_of

ROLES = ("system", "developer", "user", "assistant", "tool")
KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id", "refusal", "audio", "function_call")
FORM = 'write messages as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
CALL_FORM = '{"id": "…", "type": "function", "function": {"name": "…", "arguments": "{…}"}}'
TOOLS_FORM = 'write tools as [{"type": "function", "function": {"name": "…", "parameters": {…}}}]'


class Message(TypedDict):
    """One message; `tool_calls` are JSON, their arguments too. `weight` 0: it is not learned."""

    role: str
    content: str | None
    name: str | None
    weight: int | None
    tool_calls: str | None
    tool_call_id: str | None


def messages(value: object) -> list[Message]:
    """A chat's messages. Raises InvalidValueError: roles, types, no assistant message, an empty one."""
    found = as_list(value)
    if value is MISSING:
        raise InvalidValueError("missing_field", "the field is missing", "give every record the same fields")
    if found is None:
        raise InvalidValueError(
            "messages_not_list", f"expected a list of messages, found a {kind_of(value)}, {shown(value)}", FORM
        )
    if not found:
        raise InvalidValueError("empty_messages", "the list of messages is empty", "fill it in, or leave it out")
    read = [_message(item, place) for place, item in enumerate(found, 1)]
    answers = [message for message in read if message["role"] == "assistant"]
    if not answers:
        raise InvalidValueError(
            "no_assistant_message",
            f"none of the {len(read)} messages is the assistant's; their roles are "
            f"{listed(list(dict.fromkeys(message['role'] for message in read)))}",
            "add the assistant's answer, which is what the model learns",
        )
    if all(message["weight"] == 0 for message in answers):
        raise InvalidValueError(
            "nothing_to_learn",
            "every assistant message has weight 0",
            "leave weight out of what is to be learned, or leave the record out",
        )
    return read


def tools(value: object) -> str:
    """Descriptions of functions, as a JSON array. Raises InvalidValueError for anything else."""
    found = as_list(value)
    if value is MISSING:
        raise InvalidValueError("missing_field", "the field is missing", "give every record the same fields")
    if found is None:
        raise InvalidValueError("tools_not_list", f"expected a list of tools, found {shown(value)}", TOOLS_FORM)
    for place, tool in enumerate(found, 1):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidValueError(
                "tool_malformed", f"tool {place} is {shown(tool)}, no function with a name", TOOLS_FORM
            )
    text = json.dumps(found, ensure_ascii=False)
    check_characters(text)
    return text


def _message(item: Any, place: int) -> Message:
    if not isinstance(item, dict):
        raise InvalidValueError("message_not_object", f"message {place} is {shown(item)}, not an object", FORM)
    _check_keys(item, place)
    role = item.get("role")
    if role not in ROLES:
        raise _unknown_role(role, place)
    calls = _tool_calls(item.get("tool_calls"), role, place)
    content = _content(item.get("content"), place)
    if content is None and calls is None:
        raise InvalidValueError(
            "missing_content",
            f"message {place}, of role {role!r}, has no content",
            "give it one as a string; only an assistant message with tool_calls may have none".replace("'", '"'),
        )
    if role == "assistant" and calls is None and not (content or "").strip():
        raise InvalidValueError(
            "empty_completion",
            f"the assistant's message {place} is empty: there is nothing to learn",
            "fill it in, or leave the record out",
        )
    for name in ("name", "tool_call_id"):
        if item.get(name) is not None and not isinstance(item[name], str):
            raise InvalidValueError(
                f"{name}_not_string", f"{name} of message {place} is {shown(item[name])}", "write it as a string"
            )
        check_characters(item.get(name) or "")
    return {
        "role": role,
        "content": content,
        "name": item.get("name"),
        "weight": _weight(item.get("weight"), role, place),
        "tool_calls": calls,
        "tool_call_id": item.get("tool_call_id"),
    }


def _check_keys(item: dict[Any, Any], place: int) -> None:
    given = {key: value for key, value in item.items() if value is not None}
    if given.get("function_call"):
        raise InvalidValueError(
            "function_call_deprecated",
            f"message {place} has a function_call, which OpenAI has replaced by tool_calls",
            f'write "tool_calls": [{CALL_FORM}], and the answer as a message of role "tool"',
        )
    if given.get("audio") or given.get("refusal"):
        name = "audio" if given.get("audio") else "refusal"
        raise InvalidValueError(
            "message_not_text",
            f"message {place} has {name}, and models here read and write text",
            "leave the record out" if name == "audio" else 'write the refusal as the message\'s "content"',
        )
    if {"from", "value"} <= given.keys() and "role" not in given:
        raise InvalidValueError(
            "sharegpt_message",
            f"message {place} has `from` and `value`, as ShareGPT writes messages",
            'write {"role": …, "content": …}, with the role "user" for "human" and "assistant" for "gpt"',
        )
    for key in given:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS[:6], n=1)
            raise InvalidValueError(
                "unknown_message_field",
                f"message {place} has {shown(key)}, and messages have {listed(KEYS[:6])}",
                f"write {near[0]!r} instead" if near else "leave it out",
            )


def _unknown_role(role: object, place: int) -> InvalidValueError:
    usual = {"human": "user", "bot": "assistant", "gpt": "assistant", "model": "assistant", "ai": "assistant"}
    if role == "function":
        hint = 'write "tool", with the tool_call_id of the call that it answers'
    else:
        near = usual.get(str(role).casefold()) or next(iter(difflib.get_close_matches(str(role), ROLES, n=1)), None)
        hint = f'write "{near}"' if near else "write one of them"
    return InvalidValueError(
        "unknown_role",
        f"message {place} has no role" if role is None else f"message {place} has the role {shown(role)}",
        f"roles are {', '.join(ROLES)}; {hint}",
    )


def _content(value: object, place: int) -> str | None:
    """A string, or a list of text parts put together."""
    if isinstance(value, list):
        texts: list[str] = []
        for part in value:
            if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise InvalidValueError(
                    "content_not_text",
                    f"the content of message {place} has a part {shown(part)} that is no text",
                    'write it as a string, or as parts {"type": "text", "text": "…"}; nothing else can be learned',
                )
            texts.append(part["text"])
        value = "".join(texts)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidValueError(
            "content_not_string",
            f"the content of message {place} is a {kind_of(value)}, {shown(value)}",
            "write it as a string",
        )
    check_characters(value)
    return value


def _weight(value: object, role: str, place: int) -> int | None:
    if value is None:
        return None
    if role != "assistant":
        raise InvalidValueError(
            "weight_not_allowed",
            f"message {place}, of role {role!r}, has a weight, and only the assistant's messages are learned",
            "leave it out",
        )
    if isinstance(value, bool) or value not in (0, 1):
        raise InvalidValueError(
            "weight_not_0_or_1",
            f"the weight of message {place} is {shown(value)}",
            "write 1 for a message that is learned, as without a weight, or 0 for one that is not",
        )
    return int(value)


def _tool_calls(value: object, role: str, place: int) -> str | None:
    if value is None or value == []:
        return None
    if role != "assistant":
        raise InvalidValueError(
            "tool_calls_not_allowed",
            f"message {place}, of role {role!r}, has tool_calls, which only the assistant makes",
            'write the answer of a tool as a message of role "tool"',
        )
    calls: list[Any] = value if isinstance(value, list) else [value]
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise InvalidValueError(
                "tool_call_malformed", f"message {place} has the tool call {shown(call)}", f"write it as {CALL_FORM}"
            )
        arguments = function.get("arguments")
        try:
            parsed = json.loads(arguments) if isinstance(arguments, str) else None
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise InvalidValueError(
                "tool_arguments_not_json",
                f"the arguments of a tool call in message {place} are {shown(arguments)}",
                f"write them as a string that holds a JSON object: {CALL_FORM}",
            )
    text = json.dumps(calls, ensure_ascii=False)
    check_characters(text)
    return text
