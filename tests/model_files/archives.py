"""A model of a few hundred bytes, and archives of it as people and their tools make them."""

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer, models

Files = dict[str, bytes]


def safetensors(*names: str, numbers: int = 8) -> bytes:
    """A file in the safetensors format with tensors of `numbers` zeros each."""
    size = 4 * numbers
    header = {
        name: {"dtype": "F32", "shape": [numbers], "data_offsets": [index * size, (index + 1) * size]}
        for index, name in enumerate(names)
    }
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(size * len(names))


def model_files(**config: Any) -> Files:
    """What `save_pretrained` leaves of a model and its tokenizer."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "good": 1, "bad": 2}, unk_token="[UNK]"))
    facts = {"model_type": "bert", "architectures": ["BertModel"], "max_position_embeddings": 48} | config
    return {
        "config.json": json.dumps(facts).encode(),
        "model.safetensors": safetensors("embeddings.weight", "pooler.weight"),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": b'{"model_max_length": 48}',
    }


def tar(files: Mapping[str, bytes], *members: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """A tar (gzip unless told otherwise) of files, then of further members without content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return buffer.getvalue()


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A link, a device, a folder."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(files: Mapping[str, bytes] | Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = 8) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, content)
    return buffer.getvalue()


def under(folder: str, files: Mapping[str, bytes]) -> Files:
    """The files within a folder, as `tar -czf x.tgz FOLDER` packs them."""
    return {f"{folder}/{name}": content for name, content in files.items()}
