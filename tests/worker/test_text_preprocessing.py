"""What cleaning makes of texts, and that the copy in an artifact does the same without Tailor."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
from stopwordsiso import langs, stopwords

from app.catalog.preprocessing import Language
from app.datasets.alignment import UNSPACED as UNSPACED_OF_ALIGNMENT
from worker.training import text_preprocessing
from worker.training.text_preprocessing import UNSPACED, cleaner, stop_word_remover, strip_html


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("Tom &amp; Jerry<br />fun", "Tom & Jerry\nfun"),
        ("<p>One.</p>\n<p class='a > b'>Two.</p>", "One.\nTwo."),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ('a <B>bold</b> word, <a href="x?a=1&amp;b=2">a link</a>', "a bold word, a link"),
        ("before<script>if (a < b) alert('no')</script> after", "before after"),
        ("<style>p { color: red }</style>text<!-- not\nthis -->", "text"),
        ("<!DOCTYPE html><html><body>text</body></html>", "text"),
        ("&#65;&#x42; &quot;&nbsp;&quot; &hellip;", 'AB "\xa0" …'),
        # What is no markup stays.
        ("1 < 2 && 3 > 2", "1 < 2 && 3 > 2"),
        ("I </3 you > me <3", "I </3 you > me <3"),
        ("<user> wrote List<int> and a<b", "<user> wrote List<int> and a<b"),
        ("AT&T &copy2 &nosuchentity; R&D;", "AT&T &copy2 &nosuchentity; R&D;"),
        ("&amp;lt;b&amp;gt;", "&lt;b&gt;"),
        # Nothing is lost with an element that is not closed.
        ("<script>the rest", "the rest"),
        ("<!-- the rest", "<!-- the rest"),
        ("<div the rest", "<div the rest"),
        ("", ""),
    ],
)
def test_html_goes_and_nothing_else_does(marked: str, plain: str) -> None:
    assert strip_html(marked) == plain


@pytest.mark.parametrize("open_tag", ["<script>", "<style>", "<!--", '<div "', "<p '", "<a ", "</", "&#", "<"])
def test_a_text_full_of_open_tags_takes_no_time(open_tag: str) -> None:
    begun = time.perf_counter()
    strip_html(open_tag * 50_000)
    assert time.perf_counter() - begun < 5  # 0.1 s; a pattern that backtracks takes minutes for some of them


@pytest.mark.parametrize(
    ("words", "text", "left"),
    [
        (["the", "is"], "The film is  good. THE END is", "film good. END "),
        (["the"], "theatre, breathe; the-end", "theatre, breathe; -end"),
        (["don't", "'tis"], "I don\u2019t mind, don't you? 'Tis late", "I mind, you? 'late"),
        (["don"], "Don don't", "don't"),
        (["über"], "u\u0308ber Über alles", "alles"),
        (["है", "एक"], "यह एक फिल्म है", "यह फिल्म "),
        (["的", "我们"], "我们的电影 the 电影", "电影 the 电影"),
        (["the"], "the\nthe", "\n"),
    ],
)
def test_stop_words_go_with_the_space_behind_them(words: list[str], text: str, left: str) -> None:
    assert stop_word_remover(words)(text) == left


def test_every_language_of_the_catalogue_has_a_list_in_the_library_and_puts_spaces_between_words() -> None:
    assert set(get_args(Language)) == set(langs()) - {"zh", "ja", "th"}
    for language in ("zh", "ja", "th"):
        words = [word for word in stopwords(language) if word.isalpha()]
        assert sum(bool(re.match(f"[{UNSPACED}]", word)) for word in words) > len(words) / 2


def test_scripts_without_spaces_are_those_by_which_spans_are_aligned() -> None:
    assert f"[{UNSPACED}]" == UNSPACED_OF_ALIGNMENT.pattern


def test_steps_are_taken_in_the_order_that_is_written_down() -> None:
    every = {
        "collapse_whitespace": True,
        "lowercase": True,
        "stop_words": ["the"],
        "strip_html": True,
        "unicode_normalization": "NFKC",
    }
    # The entity becomes a fullwidth word, that becomes a plain one, that is a stop word; its spaces are then collapsed.
    assert cleaner(every)(" <b>A</b>&#xFF34;he  \n&#xFF34;\uff28\uff25 \ufb01lm ") == "athe film"
    assert cleaner({})(" As It Is ") == " As It Is "


def test_the_copy_needs_nothing_but_python(tmp_path: Path) -> None:
    settings = {"cleaning": {"strip_html": True, "lowercase": True, "stop_words": ["the"]}}
    (tmp_path / "preprocessing.json").write_text(json.dumps(settings), "utf-8")
    (tmp_path / "preprocessing.py").write_bytes(Path(text_preprocessing.__file__).read_bytes())
    code = "from preprocessing import load; print(load('.')('The <b>FILM</b>'))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "film\n"
