"""The card of a deploy folder: what it holds, how good it is and where it comes from.

`card.json` is for programs (`run.py` reads resolution and hashes off it), `card.md` for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwnas.records import hash_file
from hwnas.records.files import replace_text
from hwnas.workload.sam_plan import LINEARS, EncoderPlan

__all__ = ["Card", "CardCost", "CardQuality", "write_card"]


@dataclass(frozen=True, slots=True)
class CardCost:
    """One cost: its value with an interval where there is one, what kind of number it is."""

    name: str
    value: float
    unit: str
    fidelity: str
    lo: float | None = None
    hi: float | None = None


@dataclass(frozen=True, slots=True)
class CardQuality:
    """Mean IoU with one kind of prompt on one split, of the exported files and of the supernet."""

    split: str
    prompt: str
    images: int
    objects: int
    runtime: str
    iou: float
    standard_error: float | None
    supernet_iou: float


@dataclass(frozen=True, kw_only=True)
class Card:
    """All that a card says but for its files."""

    arch_id: str
    space: str
    genes: Mapping[str, Any]
    plan: EncoderPlan
    supernet: str
    supernet_identity: str | None
    device: str | None
    picked: str
    run: str | None
    costs: Sequence[CardCost]
    quality: Sequence[CardQuality]
    checks: Sequence[str]
    layers_on_device: Sequence[str]
    fused: Mapping[str, int]
    licences: Sequence[str]
    versions: Mapping[str, str]
    notes: Sequence[str] = field(default_factory=tuple)


def write_card(card: Card, folder: Path) -> None:
    """Write card.json and card.md; every other file of the folder must be there already.

    Raises:
        RunError: they cannot be written.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hash_file(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    plain = {name: value for name, value in vars(card).items() if name not in ("plan", "genes")}
    content = plain | {
        "resolution": card.plan.resolution,
        "genes": dict(card.genes),
        "blocks": [asdict(block) for block in card.plan.blocks],
        "costs": [asdict(cost) for cost in card.costs],
        "quality": [asdict(one) for one in card.quality],
        "files": files,
    }
    text = json.dumps(content, indent=1, allow_nan=False, default=list) + "\n"
    replace_text(folder / "card.json", text)
    replace_text(folder / "card.md", _markdown(card, files))


def _markdown(card: Card, files: Mapping[str, Mapping[str, Any]]) -> str:
    plan = card.plan
    sections: list[tuple[str, Sequence[str]]] = [
        ("Quality", [*_quality(card), "", *(f"- {check}" for check in card.checks)]),
        ("Costs", _costs(card)),
        ("Blocks", _blocks(plan)),
        ("Files", _table(
            ("file", "bytes", "sha256"),
            [(name, facts["bytes"], facts["sha256"]) for name, facts in files.items()],
        )),
        ("Where it comes from", _origin(card)),
    ]  # fmt: skip
    lines = [
        f"# {card.space} {card.arch_id}",
        "",
        f"An image encoder of {len(plan.blocks)} blocks at {plan.resolution} px, {plan.width} "
        "channels wide, with prompt encoder and mask decoder. It takes a picture and a box or "
        "points, and gives a mask.",
    ]
    if "run.py" in files:
        lines += ["", "    python run.py PICTURE --box X0 Y0 X1 Y1"]
    lines += [
        "",
        f"Picked by `{card.picked}`" + (f" from the run `{card.run}`." if card.run else "."),
    ]
    if card.device:
        lines += ["", f"Made for {card.device}."]
    for title, text in sections:
        lines += ["", f"## {title}", "", *text]
    return "\n".join([*lines, ""])


def _quality(card: Card) -> list[str]:
    head = ("split", "prompt", "images", "objects", "runtime", "IoU", "standard error",
            "supernet's IoU")  # fmt: skip
    rows = [
        (q.split, q.prompt, q.images, q.objects, q.runtime, f"{q.iou:.4f}",
         "-" if q.standard_error is None else f"{q.standard_error:.4f}", f"{q.supernet_iou:.4f}")
        for q in card.quality
    ]  # fmt: skip
    means = "IoU is the mean over images of the mean over their prompted objects."
    return [*_table(head, rows), "", means]


def _costs(card: Card) -> list[str]:
    rows = [
        (c.name, f"{c.value:.5g}", c.unit or "-",
         "-" if c.lo is None or c.hi is None else f"{c.lo:.5g} to {c.hi:.5g}", c.fidelity)
        for c in card.costs
    ]  # fmt: skip
    table = _table(("cost", "value", "unit", "interval", "what it is"), rows)
    return [*table, "", *(f"- {line}" for line in card.layers_on_device), *_fused(card.fused)]


def _blocks(plan: EncoderPlan) -> list[str]:
    head = ("block", "heads", "MLP units", *(f"{n} w/a" for n in LINEARS), "attention bits")
    rows = [
        (b.index, b.heads, b.mlp_hidden,
         *(f"{w}/{a}" for w, a in zip(b.w_bits, b.a_bits, strict=True)), b.attn_bits)
        for b in plan.blocks
    ]  # fmt: skip
    return _table(head, rows)


def _origin(card: Card) -> list[str]:
    weights = f" (weights {card.supernet_identity})" if card.supernet_identity else ""
    versions = [f"{name} {version}" for name, version in card.versions.items()]
    lines = [f"Supernet: {card.supernet}{weights}.", *card.licences, *versions, *card.notes]
    return [f"- {line}" for line in lines]


def _fused(fused: Mapping[str, int]) -> list[str]:
    if not fused:
        return []
    found = ", ".join(f"{count} {name}" for name, count in fused.items())
    return [f"- Products of the encoder in ONNX Runtime, after its optimization: {found}."]


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return ["(none)"]
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
