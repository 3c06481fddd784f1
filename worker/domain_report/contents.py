"""What a domain report holds, as JSON and on its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.domain_report.domains import DomainTable
from worker.domain_report.separability import Distance
from worker.domain_report.tokenizer_use import TokenizerUse
from worker.domain_report.verdict import Verdict
from worker.domain_report.vocabulary import VocabularyShift

FORMAT = "tailor-domain-report-1"


@dataclass(frozen=True)
class NotMeasured:
    """Why a part of the report is not there, in a sentence."""

    not_measured: str


@dataclass(frozen=True)
class DomainShift:
    """Proxy A-distance between training and target texts, by the body's features before and after training."""

    before: Distance
    after: Distance
    source_texts: int
    target_texts: int


@dataclass(frozen=True)
class DomainReport:
    """What the JSON holds. Each part is either measured or says why it is not."""

    format: str
    job: str
    model: str
    base_model: str
    task: str
    verdict: Verdict
    control: Mapping[str, Any] | None
    evaluated: Mapping[str, Any] | None
    max_length: int
    tokenizer: list[TokenizerUse]
    vocabulary: VocabularyShift | NotMeasured
    a_distance: DomainShift | NotMeasured
    domains: DomainTable | NotMeasured
    stages: Mapping[str, Mapping[str, Any]]
    methods: Mapping[str, Mapping[str, Any]]
