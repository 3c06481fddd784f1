"""Codes of languages as data sets and tokenizers write them: `en`, `en-US`, `en_XX`, `eng_Latn`."""

import re
from collections.abc import Iterable

CODE = re.compile(r"[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8})*")
# ISO 639-1: what a column that is named after a language is called.
TWO_LETTERS = frozenset(
    re.findall(
        r"[a-z]+",
        """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu
rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr
ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
""",
    )
)


def primary(code: str) -> str:
    """The language of a code, without region and script: `en` of `en-US`."""
    return re.split(r"[_-]", code, maxsplit=1)[0].casefold()


def matching(asked: str, codes: Iterable[str]) -> list[str]:
    """Which of the codes name the language that is asked for: the same code, else those of the same language.

    A code of three letters also stands for the one of two that it begins with, as `eng` does for `en`.
    """
    known = list(codes)
    folded = asked.casefold().replace("_", "-")
    same = [code for code in known if code.casefold().replace("_", "-") == folded]
    if same:
        return same
    language = primary(asked)
    alike = [code for code in known if primary(code) == language]
    return alike or [
        code for code in known if {len(primary(code)), len(language)} == {2, 3} and _begins(code, language)
    ]


def _begins(code: str, language: str) -> bool:
    one, other = sorted((primary(code), language), key=len)
    return other.startswith(one)
