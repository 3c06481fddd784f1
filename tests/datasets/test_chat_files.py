import gzip
import json
from typing import Any

import pytest

from tests.datasets.conftest import Workbench, jsonl

USER = {"role": "user", "content": "Is it open?"}
ANSWER = {"role": "assistant", "content": "Yes."}
CALL = {"id": "c1", "type": "function", "function": {"name": "hours", "arguments": '{"day": "Monday"}'}}
TASK = "text-generation"


def chat(*messages: Any, **further: Any) -> bytes:
    return jsonl([{"messages": [USER, ANSWER]}, {"messages": list(messages)} | further])


def test_chats_are_told_from_their_messages_and_kept_in_order(workbench: Workbench) -> None:
    system = {"role": "system", "content": "Be brief."}
    left_out = ANSWER | {"weight": 0}
    data = jsonl([{"messages": [system, USER, left_out, USER, ANSWER | {"weight": 1}]}])
    report = workbench.report(gzip.compress(data), "chats.jsonl.gz", task=None)
    assert (report["task"], report["options"], report["rows"]) == (TASK, {"format": "chat"}, 1)
    assert report["characters"]["max"] == len("Be brief.\nIs it open?\nYes.\nIs it open?\nYes.")
    (record,) = workbench.records(data, "chats.jsonl", task=None)
    assert [message["role"] for message in record["messages"]] == ["system", "user", "assistant", "user", "assistant"]
    assert [message["weight"] for message in record["messages"]] == [None, None, 0, None, 1]


def test_tools_their_calls_and_text_parts_are_read(workbench: Workbench) -> None:
    tool = {"type": "function", "function": {"name": "hours", "parameters": {}}}
    parts = {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "open?"}]}
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    answer = {"role": "tool", "tool_call_id": "c1", "content": "9 to 5"}
    _, record = workbench.records(chat(parts, call, answer, ANSWER, tools=[tool]), "a.jsonl", task=TASK)
    assert record["messages"][0]["content"] == "Is it open?"
    assert json.loads(record["messages"][1]["tool_calls"]) == [CALL]
    assert record["messages"][2]["tool_call_id"] == "c1"
    assert json.loads(record["tools"]) == [tool]


def test_a_cell_of_csv_holds_a_chat_as_json(workbench: Workbench) -> None:
    cell = json.dumps([USER, ANSWER]).replace('"', '""')
    (record,) = workbench.records(f'messages\n"{cell}"\n'.encode(), "a.csv", task=TASK)
    assert [message["content"] for message in record["messages"]] == ["Is it open?", "Yes."]


@pytest.mark.parametrize(
    ("messages", "code", "says"),
    [
        ("Hello", "messages_not_list", "found a string"),
        ([], "empty_messages", "empty"),
        ([USER, "Yes."], "message_not_object", "message 2"),
        ([{"role": "human", "content": "a"}, ANSWER], "unknown_role", 'write "user"'),
        ([{"role": "asistant", "content": "a"}], "unknown_role", 'write "assistant"'),
        ([USER, {"role": "function", "content": "a"}, ANSWER], "unknown_role", "tool_call_id"),
        ([{"content": "a"}, ANSWER], "unknown_role", "has no role"),
        ([USER], "no_assistant_message", "'user'"),
        ([USER, {"role": "assistant", "content": " \n"}], "empty_completion", "message 2"),
        ([USER, {"role": "assistant"}], "missing_content", "message 2"),
        ([{"role": "user", "content": 7}, ANSWER], "content_not_string", "a number, 7"),
        ([{"role": "user", "content": [{"type": "image_url"}]}, ANSWER], "content_not_text", "image_url"),
        ([USER, ANSWER | {"weight": 0.5}], "weight_not_0_or_1", "0.5"),
        ([USER, ANSWER | {"weight": True}], "weight_not_0_or_1", "True"),
        ([USER | {"weight": 1}, ANSWER], "weight_not_allowed", "'user'"),
        ([USER, ANSWER | {"weight": 0}], "nothing_to_learn", "weight 0"),
        ([USER, ANSWER | {"name": 3}], "name_not_string", "3"),
        ([USER, ANSWER | {"contents": "b"}], "unknown_message_field", "write 'content'"),
        ([USER | {"tool_calls": [CALL]}, ANSWER], "tool_calls_not_allowed", "'user'"),
        ([USER, {"role": "assistant", "tool_calls": ["hours"]}], "tool_call_malformed", "'hours'"),
        (
            [USER, {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "hours", "arguments": {}}}]}],
            "tool_arguments_not_json",
            "a string that holds a JSON object",
        ),
        ([USER, {"role": "assistant", "function_call": {"name": "a"}}], "function_call_deprecated", "tool_calls"),
        ([USER, ANSWER | {"refusal": "No."}], "message_not_text", '"content"'),
        ([{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "sharegpt_message", '"role"'),
        ([{"role": "user", "content": "\ud800"}, ANSWER], "lone_surrogate", "surrogate"),
    ],
)
def test_what_is_wrong_with_a_chat_is_said_with_its_line(
    workbench: Workbench, messages: Any, code: str, says: str
) -> None:
    data = jsonl([{"messages": [USER, ANSWER]}]) + json.dumps({"messages": messages}).encode() + b"\n"
    error = workbench.refused(data, "a.jsonl", task=TASK)
    assert (error.code, error.data["line"], error.data["field"]) == (code, 2, "messages")
    assert says in error.message


@pytest.mark.parametrize(
    ("tools", "code"), [("hours", "tools_not_list"), ([{"name": "hours"}], "tool_malformed"), (7, "tools_not_list")]
)
def test_what_is_wrong_with_tools_is_said(workbench: Workbench, tools: Any, code: str) -> None:
    error = workbench.refused(chat(USER, ANSWER, tools=tools), "a.jsonl", task=TASK)
    assert (error.code, error.data["field"]) == (code, "tools")


@pytest.mark.parametrize("columns", [("prompt", "completion"), ("prompt", "response")])
def test_prompts_with_completions_are_told_from_their_columns(workbench: Workbench, columns: tuple[str, str]) -> None:
    data = jsonl([dict(zip(columns, ("2 + 2 =", " 4"), strict=True))])
    report = workbench.report(data, "a.jsonl", task=None)
    assert (report["task"], report["options"]) == (TASK, {"format": "completion"})
    assert workbench.records(data, "a.jsonl", task=None) == [{"prompt": "2 + 2 =", "completion": " 4", "row": 1}]


def test_an_empty_completion_is_refused(workbench: Workbench) -> None:
    error = workbench.refused(jsonl([{"prompt": "a", "completion": " "}]), "a.jsonl", task=TASK)
    assert (error.code, error.data["field"]) == ("empty_text", "completion")


def test_columns_that_are_none_of_the_forms_are_answered_with_all_of_them(workbench: Workbench) -> None:
    error = workbench.refused(jsonl([{"question": "a", "reply": "b"}]), "a.jsonl", task=TASK)
    assert error.code == "missing_column"
    assert "'messages'; or 'prompt', 'completion'; or 'text'" in error.message


@pytest.mark.parametrize("task", ["fill-mask", "text-classification", "question-answering"])
def test_a_chat_for_another_task_is_refused_with_its_own(workbench: Workbench, task: str) -> None:
    error = workbench.refused(chat(USER, ANSWER), "a.jsonl", task=task)
    assert error.code == "wrong_task"
    assert TASK in error.message
