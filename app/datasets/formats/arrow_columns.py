"""Columns of Arrow: the types that are read, how many bytes values have, and the values in Python."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

SCALARS = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_null,
)


def is_readable(kind: pa.DataType) -> bool:
    """Whether values are strings, numbers or booleans, or lists or objects of such."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_list(kind):
        return is_readable(kind.value_type)
    if pa.types.is_struct(kind):
        return all(is_readable(kind.field(index).type) for index in range(kind.num_fields))
    return is_string(kind) or any(check(kind) for check in SCALARS)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists."""
    return any(check(kind) for check in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def list_lengths(column: pa.Array, limit: int) -> pa.Array | None:
    """Bytes in the strings of each list, or None where all lists of the batch together are within the limit."""
    lengths = lengths_of(column.flatten())
    if lengths is None or (pc.call_function("sum", [lengths]).as_py() or 0) <= limit:
        return None
    total = [0] * len(column)
    for parent, length in zip(
        pc.call_function("list_parent_indices", [column]).to_pylist(), lengths.to_pylist(), strict=True
    ):
        total[parent] += length or 0
    return pa.array(total)


def is_string(kind: pa.DataType) -> bool:
    """Whether values are strings, or bytes that may be."""
    return any(
        check(kind)
        for check in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_fixed_size_binary,
        )
    )


def longest(lengths: pa.Array) -> int:
    """The greatest length, 0 without any."""
    return pc.call_function("max", [lengths]).as_py() or 0


def compact(column: pa.Array) -> pa.Array:
    """A dictionary is that of the whole row group: keep of it what the batch uses."""
    if not isinstance(column, pa.DictionaryArray):
        return column
    used = column.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(used.indices, column.dictionary.take(used.dictionary))


def lengths_of(column: pa.Array) -> pa.Array | None:
    """Bytes of each value, None for types that are no strings."""
    if isinstance(column, pa.DictionaryArray):
        lengths = lengths_of(column.dictionary)
        return None if lengths is None else lengths.take(column.indices)
    if not is_string(column.type) or pa.types.is_string_view(column.type):
        return None
    return pc.call_function("binary_length", [column])


def values_of(column: pa.Array) -> list[Any]:
    """Python values; those of a dictionary are made once and shared."""
    if isinstance(column, pa.DictionaryArray):
        words = values_of(column.dictionary)
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        # Arrow does not check UTF-8 while it reads; the values are judged one by one as bytes.
        return column.cast(pa.large_binary()).to_pylist()
