"""Numbers in English and German words: a small language pair in which words change their order."""

import random

from tests.contract.tiny import Row

ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
EINER = ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
ZEHN = ["zehn", "elf", "zwölf", "dreizehn", "vierzehn", "fünfzehn", "sechzehn", "siebzehn", "achtzehn", "neunzehn"]
ZEHNER = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]


def english(number: int) -> str:
    """A number from 1 to 9999: `nine thousand four hundred twenty one`."""
    thousands, hundreds, rest = number // 1000, number // 100 % 10, number % 100
    words = [ONES[thousands - 1], "thousand"] if thousands else []
    words += [ONES[hundreds - 1], "hundred"] if hundreds else []
    return " ".join([*words, *_below_hundred(rest, ONES, TEENS, TENS)])


def german(number: int) -> str:
    """The same in German, its parts written apart: `neun tausend vier hundert ein und zwanzig`."""
    thousands, hundreds, rest = number // 1000, number // 100 % 10, number % 100
    words = [EINER[thousands - 1], "tausend"] if thousands else []
    words += [EINER[hundreds - 1], "hundert"] if hundreds else []
    tail = _below_hundred(rest, EINER, ZEHN, ZEHNER)
    return " ".join([*words, *([tail[1], "und", tail[0]] if len(tail) == 2 else tail)])


def _below_hundred(number: int, ones: list[str], teens: list[str], tens: list[str]) -> list[str]:
    if number < 10:
        return [ones[number - 1]] if number else []
    if number < 20:
        return [teens[number - 10]]
    return [tens[number // 10 - 2], *([ones[number % 10 - 1]] if number % 10 else [])]


def number_pairs(count: int, seed: int) -> list[Row]:
    """So many different numbers, in random order."""
    numbers = random.Random(seed).sample(range(1, 10_000), count)
    return [{"source": english(number), "target": german(number)} for number in numbers]


def vocabulary() -> list[str]:
    """Every word of both languages."""
    return sorted({*ONES, *TEENS, *TENS, *EINER, *ZEHN, *ZEHNER, "thousand", "hundred", "tausend", "hundert", "und"})
