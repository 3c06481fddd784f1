"""Which files make a tokenizer: `tokenizer.json`, or for a few families SentencePiece models and a vocabulary."""

from pathlib import Path

FAST = "tokenizer.json"
# Families whose tokenizer Transformers has only in this form.
SENTENCEPIECE_TOKENIZERS: dict[str, tuple[str, ...]] = {
    "m2m_100": ("sentencepiece.bpe.model", "vocab.json"),
    "marian": ("source.spm", "target.spm", "vocab.json"),
}


def missing_tokenizer(directory: Path, family: str | None) -> str | None:
    """What is wrong with a directory in which a model of this family has no tokenizer; None where it has one."""
    if (directory / FAST).is_file():
        return None
    files = SENTENCEPIECE_TOKENIZERS.get(family or "")
    if files is None:
        return "it has no tokenizer.json (fast tokenizer); load it with AutoTokenizer and save_pretrained once"
    missing = [name for name in files if not (directory / name).is_file()]
    if not missing:
        return None
    return f"it has neither tokenizer.json nor all files of the tokenizer of {family}; {', '.join(missing)} missing"
