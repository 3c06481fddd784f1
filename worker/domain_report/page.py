"""The domain report as a page: the finding first, then what it rests on."""

from collections.abc import Mapping
from html import escape
from typing import Any

from worker.domain_report.contents import DomainReport, DomainShift, NotMeasured
from worker.domain_report.corpora import SOURCE, TARGET
from worker.domain_report.domains import DomainTable
from worker.domain_report.features import TOKENS
from worker.domain_report.json_tables import facts
from worker.domain_report.tokenizer_use import MANY_PIECES, TokenizerUse
from worker.domain_report.verdict import Verdict
from worker.domain_report.vocabulary import MarkedWord, VocabularyShift
from worker.pages.charts import NARROW, Bar, bar_chart
from worker.pages.frame import between, document, heading, paragraph, percent, table

HEADLINES = {
    "helped": ("It helped", "good"),
    "no_measurable_difference": ("No measurable difference", ""),
    "hurt": ("It hurt: negative transfer", "bad"),
    "not_measured": ("Whether it helped is not known", ""),
}
SIDES = ("training", "target")


def page(report: DomainReport) -> str:
    """The page; every text in it is escaped."""
    return document(
        f"Domain report of {report.model}",
        [
            f"<h1>Domain report of {escape(report.model)}</h1>",
            paragraph(f"{report.task}, from {report.base_model}, by job {report.job}.", quiet=True),
            _finding(report.verdict),
            _control(report),
            heading("Domains"),
            _domains(report.domains, report.verdict.metric),
            heading("Distance of the domains"),
            _distance(report.a_distance),
            heading("Vocabulary"),
            _vocabulary(report.vocabulary),
            heading("Tokenizer"),
            _tokenizer(report),
            *_said("Stages", report.stages),
            *_said("Methods", report.methods),
        ],
    )


def _finding(verdict: Verdict) -> str:
    headline, kind = HEADLINES[verdict.outcome]
    return f'<div class="finding {kind}"><strong>{escape(headline)}</strong>{escape(verdict.sentence)}</div>'


def _control(report: DomainReport) -> str:
    verdict, found = report.verdict, report.verdict.decisive
    if found is None or report.evaluated is None or report.control is None:
        return ""
    both = (("with", found.b, report.evaluated), ("without: the control", found.a, report.control))
    bars = [
        Bar(name, value, scores["intervals"].get(found.name), series=2 * place)
        for place, (name, value, scores) in enumerate(both)
    ]
    rows = [
        (
            measure.name + (" (lower is better)" if measure.lower_is_better else ""),
            measure.b,
            measure.a,
            f"{measure.difference:+.4f}",
            between(measure.interval),
            f"{measure.p_value:.4f}",
        )
        for measure in verdict.measured
    ]
    chosen = (
        " The validation file also chose the step of both models, so that both scores are somewhat too good."
        if verdict.split == "validation"
        else ""
    )
    return "\n".join(
        [
            heading("With and without"),
            bar_chart(f"{found.name} on the {verdict.split} file, with 95 % intervals", bars),
            table(["metric", "with", "without", "difference", "95 % interval", "p"], rows),
            _mcnemar(verdict),
            paragraph(
                f"The control was trained on the same records with the same seed and budget, without "
                f"{', '.join(verdict.methods)}. The tests are paired: both models answer the same {verdict.rows:,} "
                "rows (approximate randomization, Noreen 1989; bootstrap, Koehn 2004). They tell whether these two "
                "models differ; how much other seeds would, they do not." + chosen,
                quiet=True,
            ),
        ]
    )


def _mcnemar(verdict: Verdict) -> str:
    found = verdict.mcnemar
    if found is None:
        return ""
    return paragraph(
        f"Right only with: {found.only_b_right:,} rows; right only without: {found.only_a_right:,} rows "
        f"(McNemar's exact test: p = {found.p_value:.4f})."
    )


def _domains(domains: DomainTable | NotMeasured, metric: str | None) -> str:
    if isinstance(domains, NotMeasured):
        return paragraph(domains.not_measured)
    names = [name for name in domains.headline if any(name in part.metrics for part in domains.domains)]
    name = metric or next(iter(names), "")
    bars = [
        Bar(part.slice, part.metrics[name], part.intervals.get(name))
        for part in domains.domains
        if name in part.metrics
    ]
    parts = [
        bar_chart(f"{name} by domain, with 95 % intervals", bars) if bars else "",
        table(
            ["domain", "rows", *names, f"95 % interval of {name}"],
            [
                (
                    part.slice,
                    part.rows,
                    *(part.metrics.get(name) for name in names),
                    between(part.intervals.get(name)),
                )
                for part in domains.domains
            ],
        ),
    ]
    tested = [(part, part.against_control) for part in domains.domains if part.against_control is not None]
    if tested:
        parts += [
            heading("Difference from the control by domain", 3),
            bar_chart(
                f"{name} minus that of the control, by domain, with 95 % intervals",
                [
                    Bar(part.slice, test.difference, test.interval, label=f"{test.difference:+.4f}")
                    for part, test in tested
                ],
            ),
            table(
                ["domain", "finding", "with", "without", "difference", "95 % interval", "p, adjusted"],
                [
                    (
                        part.slice,
                        part.outcome.replace("_", " "),
                        test.b,
                        test.a,
                        f"{test.difference:+.4f}",
                        between(test.interval),
                        part.adjusted_p_value,
                    )
                    for part, test in tested
                ],
                texts=2,
            ),
            paragraph("p-values are adjusted for the number of domains (Holm 1979).", quiet=True),
        ]
    if domains.left_out:
        parts.append(paragraph(f"{domains.left_out:,} smaller domains are left out.", quiet=True))
    return "\n".join(parts)


def _distance(found: DomainShift | NotMeasured) -> str:
    if isinstance(found, NotMeasured):
        return paragraph(found.not_measured)
    both = (("before training", found.before), ("after training", found.after))
    return "\n".join(
        [
            bar_chart(
                "Proxy A-distance of training and target texts, with 95 % intervals",
                [
                    Bar(name, distance.value, distance.interval, label=f"{distance.value:.2f}")
                    for name, distance in both
                ],
                limits=(0.0, 2.0),
            ),
            table(
                ["features", "proxy A-distance", "95 % interval", "texts told wrong"],
                [
                    (name, distance.value, between(distance.interval), percent(distance.error))
                    for name, distance in both
                ],
            ),
            paragraph(
                "0: a classifier cannot tell training from target texts by what the model's body makes of them. 2: it "
                f"tells all of them. Proxy A-distance (Ben-David et al. 2007) of a logistic regression on the mean of "
                f"the last hidden states over the first {TOKENS} tokens of {found.source_texts:,} training and "
                f"{found.target_texts:,} target texts, each judged by a classifier that has not seen it.",
                quiet=True,
            ),
        ]
    )


def _vocabulary(found: VocabularyShift | NotMeasured) -> str:
    if isinstance(found, NotMeasured):
        return paragraph(found.not_measured)
    return "\n".join(
        [
            table(
                ["measure", "value"],
                [
                    ("Jensen-Shannon divergence of the words, 0 to 1", found.divergence),
                    ("the same, were there no shift", found.without_shift),
                    ("target words, with repetition, that no training text holds", percent(found.unseen_tokens)),
                    ("different target words that no training text holds", percent(found.unseen_types)),
                    ("words in target texts", found.target_words_counted),
                    ("words in training texts", found.source_words_counted),
                ],
            ),
            '<div class="pair">',
            _words("Words of the target texts", found.target_words, 1.0),
            _words("Words of the training texts", found.source_words, -1.0),
            "</div>",
            paragraph(
                "Words without case; those of Chinese are told apart by jieba. The divergence without shift is what "
                "texts dealt to the two sides at random have. Marked words are those whose log-odds ratio, with both "
                "sides together as its prior, lies most standard errors (z) from zero (Monroe et al. 2008).",
                quiet=True,
            ),
        ]
    )


def _words(title: str, words: list[MarkedWord], sign: float) -> str:
    if not words:
        return ""
    bars = [
        Bar(word.word, sign * word.z, series=0 if sign < 0 else 1, label=f"z {sign * word.z:.1f}") for word in words
    ]
    rows = [(word.word, word.target_per_million, word.source_per_million) for word in words]
    counts = table(["word", "a million, target", "a million, training"], [(w, *map(round, n)) for w, *n in rows])
    chart = bar_chart(title, bars, widths=NARROW)
    return f"<div>{heading(title, 3)}{chart}<details><summary>Counts</summary>{counts}</details></div>"


def _tokenizer(report: DomainReport) -> str:
    uses = report.tokenizer
    if not uses:
        return paragraph("There is no text to look at.")
    return "\n".join(
        [
            paragraph(_compared(uses)),
            bar_chart(
                "Tokens a word, by origin of the texts",
                [
                    Bar(use.name, use.fertility, series=int(use.target), label=f"{use.fertility:.2f}")
                    for use in uses
                    if use.fertility is not None
                ],
                legend=SIDES,
            ),
            table(
                ["texts", "count", "tokens a word", "unknown", f"in {MANY_PIECES}+ pieces", "beyond the window"],
                [
                    (
                        use.name,
                        use.texts,
                        use.fertility,
                        "spelled out" if use.unknown_share is None else percent(use.unknown_share),
                        percent(use.split_share),
                        percent(use.beyond_window_share),
                    )
                    for use in uses
                ],
            ),
            paragraph(_measured(report), quiet=True),
        ]
    )


def _compared(uses: list[TokenizerUse]) -> str:
    known = {use.name: use.fertility for use in uses if use.fertility is not None}
    if SOURCE not in known or TARGET not in known:
        return "The job has no target files; these are its training texts." if TARGET not in known else ""
    ratio = known[TARGET] / known[SOURCE]
    words = "as many tokens as" if abs(ratio - 1) < 0.02 else f"{ratio:.2f} times the tokens that"
    return f"A word of the target texts takes {words} a word of the training texts takes."


def _measured(report: DomainReport) -> str:
    units = {use.unit for use in report.tokenizer}
    what = {
        "word": "signs count as words",
        "character": "what counts as a word here is a character, as in Chinese and Japanese",
        "word or character": "signs, and characters of scripts without spaces, count as words",
    }
    counted = "; ".join(text for unit, text in what.items() if unit in units)
    sampled = max(use.measured for use in report.tokenizer)
    return (
        f"Tokens a word (fertility, Rust et al. 2021): {counted}. Unknown: share of tokens. "
        "In pieces: share of words. Beyond the window: share of texts longer than "
        f"{report.max_length:,} tokens. At most {sampled:,} texts of each origin are looked at."
    )


def _said(title: str, by_name: Mapping[str, Mapping[str, Any]]) -> list[str]:
    told = {name: said for name, said in by_name.items() if said}
    if not told:
        return []
    return [heading(title), *(heading(name, 3) + facts(said) for name, said in told.items())]
