"""Names of classes that Hugging Face Datasets keeps beside the numbers of a Parquet file."""

import json
from typing import Any

import pyarrow as pa

METADATA = b"huggingface"


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """For each column of class numbers, or of lists of them, the names by number; empty where nobody says."""
    try:
        features = json.loads((schema.metadata or {})[METADATA])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    found: dict[str, list[str]] = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        while isinstance(feature, dict) and "names" not in feature and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            found[column] = names
    return found


def named(value: Any, names: list[str]) -> Any:
    """A number's name, and the names of a list's numbers; -1, which stands for unknown, is null."""
    if isinstance(value, list):
        return [named(item, names) for item in value]
    if type(value) is not int or value >= len(names):
        return value
    return None if value < 0 else names[value]
