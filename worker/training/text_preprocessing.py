"""Texts as a model was trained to read them. Needs nothing but Python's own library.

A copy of this file lies as `preprocessing.py` beside the weights of a model whose job cleaned its texts, and
`preprocessing.json` says how. For a model of words (token classification), clean each word by itself.
"""

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

SETTINGS = "preprocessing.json"

# HTML's elements, obsolete ones included. `<user>` or `List<int>` in a text is no markup and stays.
INLINE = (
    r"a|abbr|acronym|audio|b|bdi|bdo|big|canvas|cite|code|data|datalist|del|dfn|em|embed|font|i|"
    r"iframe|img|input|ins|kbd|label|link|map|mark|meta|meter|noscript|object|output|param|picture|"
    r"progress|q|rp|rt|ruby|s|samp|script|select|slot|small|source|span|strike|strong|style|sub|"
    r"sup|svg|template|textarea|time|title|track|tt|u|var|video|wbr"
)
BLOCK = (
    r"address|area|article|aside|base|blockquote|body|br|button|caption|center|col|colgroup|dd|"
    r"details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h1|h2|h3|h4|"
    r"h5|h6|head|header|hgroup|hr|html|legend|li|main|menu|nav|ol|optgroup|option|p|pre|search|"
    r"section|summary|table|tbody|td|tfoot|th|thead|tr|ul"
)
# A tag or a document type. Attributes hold no `<`: every scan ends at the next one, so that a text full of open tags
# takes no longer than any other.
ATTRIBUTES = r"(?=[\s/>])(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*>"
TAG = re.compile(rf"<!doctype\b[^<>]*>|</?(?:({BLOCK})|{INLINE}){ATTRIBUTES}", re.IGNORECASE)
# What has no text of its own, by how it begins and ends.
WITHOUT_TEXT = tuple(
    (re.compile(begin, re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for begin, end in (
        (r"<!--", r"-->"),
        (rf"<script{ATTRIBUTES}", r"</script\s*>"),
        (rf"<style{ATTRIBUTES}", r"</style\s*>"),
    )
)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
# Scripts that put no spaces between words: Thai, Lao, Myanmar, Khmer, Chinese and Japanese, with their extensions.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003fffd"
)

Clean = Callable[[str], str]


def load(directory: str | Path) -> Clean:
    """The function that cleans a text as the model in `directory` was trained to read it."""
    return cleaner(json.loads((Path(directory) / SETTINGS).read_text("utf-8"))["cleaning"])


def cleaner(settings: Mapping[str, Any]) -> Clean:
    """The function that does what `settings` ask for, always in this order. `stop_words` is a list."""
    steps: list[Clean] = []
    if settings.get("strip_html"):
        steps.append(strip_html)
    if form := settings.get("unicode_normalization"):
        steps.append(lambda text: unicodedata.normalize(form, text))
    if settings.get("lowercase"):
        steps.append(str.lower)
    if words := settings.get("stop_words"):
        steps.append(stop_word_remover(words))
    if settings.get("collapse_whitespace"):
        steps.append(lambda text: " ".join(text.split()))

    def clean(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return clean


def strip_html(text: str) -> str:
    """Without elements of HTML and comments; a block ends a line. Entities that end in `;` are decoded, once.

    Not by `html.parser`: what it makes of broken markup differs between releases of Python, and it takes `</3` and
    `<user>` for markup. An element that is not closed loses its tag and keeps its text.
    """
    if "<" in text:
        for begin, end in WITHOUT_TEXT:
            text = _without(text, begin, end)
        text = TAG.sub(lambda found: "\n" if found[1] else "", text)
        text = re.sub(r"\n{2,}", "\n", text).strip("\n")
    return ENTITY.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text


def _without(text: str, begin: re.Pattern[str], end: re.Pattern[str]) -> str:
    kept: list[str] = []
    place = 0
    while (first := begin.search(text, place)) and (last := end.search(text, first.end())):
        kept.append(text[place : first.start()])
        place = last.end()
    return "".join([*kept, text[place:]])


def stop_word_remover(words: Iterable[str]) -> Clean:
    """A function that removes `words` and the space behind them, whatever their case.

    A word is a run of letters and digits, with the apostrophes in it. In scripts without spaces every character is a
    word, so that words of these lists are removed wherever their characters stand, the longest first.
    """
    spaced: set[str] = set()
    unspaced: list[str] = []
    for word in words:
        folded = _folded(word)
        if re.search(f"[{UNSPACED}]", folded):
            unspaced.append(folded)
        else:
            spaced.add(folded.strip("'"))
    characters = re.compile("|".join(map(re.escape, sorted(unspaced, key=len, reverse=True))), re.IGNORECASE)
    letter = _letter()
    spaced_word = re.compile(rf"({letter}+(?:['\u2019]{letter}+)*)[^\S\n]*")

    def remove(text: str) -> str:
        if spaced:
            text = spaced_word.sub(lambda found: "" if _folded(found[1]) in spaced else found[0], text)
        return characters.sub("", text) if unspaced else text

    return remove


@cache
def _letter() -> str:
    """A pattern of what words of scripts with spaces consist of, the marks of vowels and accents included."""
    marks = "".join(map(chr, (code for code in range(0x300, 0x20000) if unicodedata.category(chr(code))[0] == "M")))
    return rf"(?:(?![{UNSPACED}])[\w{marks}])"


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold().replace("\u2019", "'")
