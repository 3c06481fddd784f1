"""Words of texts of any script, wherever their punctuation and spaces stand."""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import rjieba

from worker.training.text_preprocessing import UNSPACED

LETTER = rf"[^\W{UNSPACED}]"  # letters, digits and underscores of scripts with spaces


@cache
def unit_pattern() -> re.Pattern[str]:
    """What tokenizers are measured by: words (group 1), characters of scripts without spaces (group 2), signs.

    Splitting signs off is what treebanks do, whose words Rust et al. 2021 count.
    """
    return re.compile(rf"({_word()})|([{UNSPACED}])|\S")


@cache
def _run_pattern() -> re.Pattern[str]:
    return re.compile(rf"([{UNSPACED}]+)|{_word()}")


def _word() -> str:
    """Letters with the marks and apostrophes between them. Nothing can match in two ways: it takes linear time."""
    return rf"{LETTER}+(?:(?:[{_marks()}]+|['\u2019](?={LETTER})){LETTER}*)*"


def _marks() -> str:
    """Vowel signs and accents, which are no letters to Python, as ranges of a pattern."""
    codes = [code for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M"]
    codes = [code for code in codes if not re.match(f"[{UNSPACED}]", chr(code))]
    starts = [codes[0], *(code for before, code in pairwise(codes) if code != before + 1)]
    ends = [*(before for before, code in pairwise(codes) if code != before + 1), codes[-1]]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


def vocabulary_words(text: str) -> Iterator[str]:
    """Words without case and width, signs left out. jieba tells those of Chinese apart."""
    for found in _run_pattern().finditer(unicodedata.normalize("NFKC", text).casefold()):
        if found[1]:
            yield from rjieba.cut(found[1])
        else:
            yield found[0]


def spaced(text: str) -> str:
    """A text as data sets of words have it: signs stand by themselves."""
    return " ".join(found[0] for found in unit_pattern().finditer(text))
