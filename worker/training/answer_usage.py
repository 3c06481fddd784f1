"""Lines on a model card that answer questions with plain Transformers, which has no pipeline of the task any more."""

USAGE = '''\
import json
import unicodedata
from pathlib import Path

import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

directory = Path("path/to/this/directory")
model = AutoModelForQuestionAnswering.from_pretrained(directory).eval()
tokenizer = AutoTokenizer.from_pretrained(directory)
settings = json.loads((directory / "question_answering.json").read_text("utf-8"))


def answer(question: str, context: str) -> dict:
    """The best span of the context, or "" where the model finds no answer; a long context is read in windows."""
    free = settings["max_length"] - tokenizer.num_special_tokens_to_add(pair=True)
    tokens = tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    if len(tokens) > free // 2:
        question, tokens = question[: tokens[free // 2 - 1][1]], tokens[: free // 2]
    windows = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=settings["max_length"],
        stride=min(settings["doc_stride"], (free - len(tokens)) // 2),
        padding=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        output = model(**{name: windows[name] for name in tokenizer.model_input_names if name in windows})
    best, null = (float("-inf"), 0, 0), float("inf")
    for row, offsets in enumerate(windows["offset_mapping"].tolist()):
        parts, ids = windows.sequence_ids(row), windows["input_ids"][row].tolist()
        starts, ends = output.start_logits[row].tolist(), output.end_logits[row].tolist()
        class_token = [i for i in range(len(ids)) if parts[i] is None and ids[i] == tokenizer.cls_token_id]
        seen = windows["attention_mask"][row].nonzero().flatten().tolist()
        nowhere = class_token[0] if class_token else seen[-1]
        null = min(null, starts[nowhere] + ends[nowhere])
        in_context = [i for i in range(len(ids)) if parts[i] == 1]
        for place, first in enumerate(in_context):
            for last in in_context[place : place + settings["max_answer_length"]]:
                if all(context[slice(*offsets[i])].strip() for i in (first, last)):
                    best = max(best, (starts[first] + ends[last], offsets[first][0], offsets[last][1]))
    score, begin, end = best
    while begin < end < len(context) and unicodedata.category(context[end]).startswith("M"):
        end += 1  # accents that the tokenizer took off the last character
    text = context[begin:end].strip()
    threshold = settings["null_threshold"]
    if threshold is not None and null - score > threshold:
        return {"answer": "", "start": None, "score": null}
    return {"answer": text, "start": context.find(text, begin), "score": score}


answer("Who wrote it?", "It was written by a friend of mine.")
'''
