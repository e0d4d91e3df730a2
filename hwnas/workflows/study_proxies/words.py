"""What a study of proxies says in words."""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.workflows.study_proxies.costs import BASELINES
from hwnas.workflows.study_proxies.judge import Figure, Judgement
from hwnas.workflows.study_proxies.subnets import Subnets

__all__ = ["notes_of", "verdict"]

_RELIABLE = 0.3


def verdict(name: str, own: Judgement, judged: Mapping[str, Judgement]) -> str:
    """One sentence: which baselines a cost model beats, overall and within bands of BitOPs.

    It beats a baseline where the whole interval of the difference is above 0. A Spearman's rho
    below 0.3 is called unreliable, after section 8.3 of the project's specification.
    """
    tau = own.overall.kendall
    if tau.value is None:
        return f"{name} gives every subnet the same value: it says nothing of their order"
    if (tau.hi if tau.hi is not None else tau.value) < 0:
        return f"{name} orders the subnets the wrong way round (Kendall tau {tau.value:.2f})"
    parts = [_against(name, own.against, tau, judged)]
    if own.against_in_bands and own.in_bands.value is not None:
        better, _, _ = _sorted(own.against_in_bands)
        words = ", ".join(better) if better else "none of them"
        parts.append(f"at equal BitOPs it beats {words}")
    rho = own.overall.spearman.value
    if rho is not None and rho < _RELIABLE:
        parts.append(f"Spearman {rho:.2f} is below {_RELIABLE}: do not search with it")
    return "; ".join(parts)


def _against(
    name: str, against: Mapping[str, Figure], tau: Figure, judged: Mapping[str, Judgement]
) -> str:
    if not against:
        return f"{name} has no baseline to beat"
    better, alike, worse = _sorted(against)
    if not better:
        figures = ", ".join(
            f"{other} {judged[other].overall.kendall.value:.2f}" for other in against
        )
        doubt = f" (not told apart from {', '.join(alike)})" if alike else ""
        return (
            f"{name} beats none of the baselines{doubt}: Kendall tau {tau.value:.2f} beside "
            f"{figures}"
        )
    rest = [f"not told apart from {', '.join(alike)}"] if alike else []
    rest += [f"worse than {', '.join(worse)}"] if worse else []
    return "; ".join([f"{name} beats {', '.join(better)}", *rest])


def _sorted(against: Mapping[str, Figure]) -> tuple[list[str], list[str], list[str]]:
    """Baselines that are beaten, not told apart, and better."""
    better: list[str] = []
    alike: list[str] = []
    worse: list[str] = []
    for other, figure in against.items():
        if figure.value is None or figure.floor is None:
            continue
        top = figure.value if figure.hi is None else figure.hi
        (better if figure.floor > 0 else worse if top < 0 else alike).append(other)
    return better, alike, worse


def notes_of(
    labels: Subnets, counts: Mapping[str, object], has_bitops: bool, bands: int
) -> tuple[str, ...]:
    """What the reader should know of the subnets and of what was left out."""
    prompt = f", {labels.prompt} prompts" if labels.prompt else ""
    splits = f", split {', '.join(labels.splits)}" if labels.splits else ""
    notes = [
        f"{len(labels)} evaluated subnets of {labels.source}{prompt}{splits}; quality is "
        f"{labels.metric}, a point is 0.01",
        "brackets are 95 % bootstrap intervals over subnets: they hold for these weights and "
        "images, not for another training",
    ]
    if labels.outside:
        notes.append(f"{labels.outside} subnets of the file are outside of the space: left out")
    if "test" in labels.splits:
        notes.append("judged on a test split: do not choose a proxy by it and report it as well")
    if len(labels.supernets) > 1:
        notes.append("the subnets are of several supernets, so weights differ as well as archs")
    missing = [name for name in BASELINES if name not in counts]
    if missing:
        notes.append(f"without {', '.join(missing)}: the space does not say what its layers are")
    if bands and not has_bitops:
        notes.append("without bands: neither space nor file give BitOPs")
    elif not bands:
        notes.append("without bands of BitOPs: an order over all costs is not one at equal cost")
    return tuple(notes)
