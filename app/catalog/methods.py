"""Every way to adapt a model. A new method is an entry in `adaptation/`, named here, and a module in `worker/methods`.

A job's `adaptation` names methods; named together they compose, in the order in which they stand here. Without any the
job is full fine-tuning. What changes the training records comes first. What asks for a batch's loss more than once, as
`fgm` does, comes before what adds batches of its own to it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from app.catalog.adaptation.augmentation import AUGMENTATION
from app.catalog.adaptation.continued_pretraining import CONTINUED_PRETRAINING
from app.catalog.adaptation.domain_adversarial import DOMAIN_ADVERSARIAL
from app.catalog.adaptation.ema import EMA
from app.catalog.adaptation.fgm import FGM
from app.catalog.adaptation.freeze import FREEZE
from app.catalog.adaptation.full import FULL
from app.catalog.adaptation.l2_sp import L2_SP
from app.catalog.adaptation.lora import LORA
from app.catalog.adaptation.meta_learning import META_LEARNING
from app.catalog.adaptation.mixout import MIXOUT
from app.catalog.adaptation.multi_task import MULTI_TASK
from app.catalog.adaptation.prototype import PROTOTYPE
from app.catalog.adaptation.r_drop import R_DROP
from app.catalog.adaptation.spec import MethodOptions, MethodSpec
from app.catalog.adaptation.swa import SWA

METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        FULL,
        AUGMENTATION,
        CONTINUED_PRETRAINING,
        META_LEARNING,
        FREEZE,
        LORA,
        PROTOTYPE,
        R_DROP,
        L2_SP,
        MIXOUT,
        FGM,
        MULTI_TASK,
        DOMAIN_ADVERSARIAL,
        EMA,
        SWA,
    )
}
DEFAULT_METHOD = FULL.name


def in_order(names: Iterable[str]) -> list[MethodSpec]:
    """The entries of a job's methods in the order in which they compose; the default where there is none."""
    asked = set(names) or {DEFAULT_METHOD}
    return [spec for name, spec in METHODS.items() if name in asked]


def with_options(asked: Mapping[str, Mapping[str, Any]]) -> list[tuple[MethodSpec, MethodOptions]]:
    """The entries of the methods that a job names, each with its options."""
    return [(spec, spec.options.model_validate(asked[spec.name])) for spec in in_order(asked) if spec.name in asked]


def conflict(asked: Iterable[str] | Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Two of the methods that make no sense together, and why; None where all compose. By their options where given."""
    options: Mapping[str, Any] = cast("Mapping[str, Any]", asked) if isinstance(asked, Mapping) else {}
    for spec in (specs := in_order(asked)):
        reasons = spec.conflicts
        if (given := options.get(spec.name)) is not None:
            reasons = {**reasons, **spec.conflicts_of(spec.options.model_validate(given))}
        for other in specs:
            if other.name in reasons:
                return spec.name, other.name, reasons[other.name]
    return None


def composes_with(spec: MethodSpec) -> list[str]:
    """The methods that a job can name beside this one."""
    return [name for name in METHODS if name != spec.name and conflict((spec.name, name)) is None]
