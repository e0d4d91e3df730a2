"""Printing a front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.cli.output import note, print_json, print_table

if TYPE_CHECKING:
    from hwnas.workflows.search import Outcome

__all__ = ["print_front"]


def print_front(outcome: Outcome, *, as_json: bool) -> None:
    """Print the front as a table with a summary, or as one JSON document."""
    from hwnas.workflows.front_table import front_document, front_table, verified_table

    if as_json:
        print_json(front_document(outcome))
        return
    result = outcome.result
    print_table(front_table(outcome))
    note(
        f"{len(result.front)} designs on the front of {result.evaluations} evaluated"
        f"{f', {result.failed} failed' if result.failed else ''}"
        f"{f', {result.real_evaluations} for real' if result.real_evaluations else ''}, "
        f"{result.seconds:.0f} s; "
        f"hypervolume {result.hypervolume:.6g} from {_point(result.reference_point)}"
    )
    for name, verdict in outcome.judged.items():
        note(f"{name} (predicted): {verdict}")
    for sentence in outcome.exact.sentences() if outcome.exact is not None else ():
        note(sentence)
    if outcome.verified is not None:
        print_table(verified_table(outcome.verified), title="\npredicted and measured")
        for sentence in outcome.verified.sentences():
            note(sentence)
    for path in outcome.reports:
        note(f"wrote {path}")


def _point(reference: object) -> str:
    if not isinstance(reference, dict):
        return "no reference point"
    return "(" + ", ".join(f"{name} {value:.4g}" for name, value in reference.items()) + ")"
