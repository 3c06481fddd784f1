"""Lines on a model card that write texts with plain Transformers, which has no pipelines of the tasks any more."""

SETTINGS = "sequence_to_sequence.json"


def usage_of(verb: str) -> str:
    """Python with a function of this name; how texts are searched for lies in the model's `generation_config.json`."""
    return f'''\
import json
from pathlib import Path

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

directory = Path("path/to/this/directory")
model = AutoModelForSeq2SeqLM.from_pretrained(directory).eval()
tokenizer = AutoTokenizer.from_pretrained(directory)
settings = json.loads((directory / "{SETTINGS}").read_text("utf-8"))


def {verb}(texts: list[str]) -> list[str]:
    """What the model writes for every text; ends beyond its window are not read."""
    inputs = tokenizer(
        [settings["source_prefix"] + text for text in texts],
        truncation=True,
        max_length=settings["max_length"],
        padding=True,
        return_token_type_ids=False,
        return_tensors="pt",
    )
    with torch.inference_mode():
        return tokenizer.batch_decode(model.generate(**inputs), skip_special_tokens=True)


{verb}(["A text to {verb}."])
'''
