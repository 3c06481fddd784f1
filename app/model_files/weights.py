"""Weights in the safetensors format: the header read and checked, the tensors left alone.

A file is an 8-byte little-endian length, a JSON object of that length, and the tensors' bytes without a gap
(https://github.com/huggingface/safetensors, "Format").
"""

import json
import math
import struct
from pathlib import Path
from typing import Any, cast

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class UnusableWeightsError(Exception):
    """The weights cannot be loaded; the message is a clause about the model ("it has no …")."""


def used_files(directory: Path) -> list[str]:
    """The names of the files that Transformers loads the weights from: one, or the shards that an index names.

    Raises UnusableWeightsError where there are none, one is missing or damaged, or holds not what the index says.
    """
    if (directory / WHOLE).is_file():
        _tensors(directory / WHOLE)
        return [WHOLE]
    if (directory / INDEX).is_file():
        return _shards(directory)
    found = sorted(path.name for path in directory.glob("*.safetensors"))
    if not found:
        raise UnusableWeightsError("it has no safetensors weights; save it with save_pretrained")
    raise UnusableWeightsError(
        f"it has neither {WHOLE} nor {INDEX}, and Transformers loads nothing else (found {', '.join(found[:5])}); save "
        "it with save_pretrained"
    )


def _shards(directory: Path) -> list[str]:
    weight_map = _weight_map(directory / INDEX)
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise UnusableWeightsError(f"it lacks {', '.join(missing[:5])}{more}, which {INDEX} names; add every shard")
    for name in names:
        held = _tensors(directory / name)
        lacking = next((tensor for tensor, shard in weight_map.items() if shard == name and tensor not in held), None)
        if lacking is not None:
            raise UnusableWeightsError(f"{name} has no tensor {lacking!r}, which {INDEX} says it has; save it again")
    return names


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, RecursionError, KeyError, TypeError):
        weight_map = None
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnusableWeightsError(f"{INDEX} names no shards: it has no `weight_map` of tensors and files")
    for name in cast(dict[str, Any], weight_map).values():
        if not isinstance(name, str) or not name.endswith(".safetensors") or "/" in name or "\0" in name:
            raise UnusableWeightsError(f"{INDEX} names {name!r}, which is no safetensors file beside it")
    return cast(dict[str, str], weight_map)


def _tensors(path: Path) -> frozenset[str]:
    """The names of a file's tensors, whose sizes and places are checked."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length: int = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(size - 8, MAX_HEADER_BYTES):
            raise UnusableWeightsError(f"{path.name} is not a safetensors file or is cut off")
        try:
            header: Any = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise UnusableWeightsError(f"{path.name} is not a safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise UnusableWeightsError(f"{path.name} is not a safetensors file: its header is not an object")
    entries = {name: entry for name, entry in cast(dict[str, Any], header).items() if name != "__metadata__"}
    if not entries:
        raise UnusableWeightsError(f"{path.name} holds no tensors")
    spans = sorted(_span(path, name, entry) for name, entry in entries.items())
    end = 0
    for first, last, name in spans:
        if first != end:
            raise UnusableWeightsError(
                f"{path.name} is damaged: tensor {name!r} begins at {first:,} and not at {end:,}"
            )
        end = last
    if 8 + length + end != size:
        kind = "cut off" if size < 8 + length + end else "damaged"
        raise UnusableWeightsError(f"{path.name} is {kind}: {size:,} bytes instead of {8 + length + end:,}")
    return frozenset(entries)


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """First and last byte of a tensor, which its shape and type must account for."""
    try:
        dtype, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = all(type(number) is int and number >= 0 for number in (first, last, *shape))
        fits = numbers and BITS[dtype] * math.prod(shape) == 8 * (last - first)
    except (KeyError, TypeError, ValueError):
        fits, first, last = False, 0, 0
    if not fits:
        raise UnusableWeightsError(
            f"{path.name} is damaged: the size of tensor {name!r} follows not from its type and shape"
        )
    return first, last, name
