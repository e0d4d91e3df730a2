"""Folders written here are read by huggingface/peft, and the other way round, on a stock SAM."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.adapters import SAM_LINEARS, attach, detach, load, save
from hwnas.supernet.sam_model import encode
from hwnas.supernet.torchvision_shim import ensure_torchvision
from tests.adapters.tiny_sam import shake, some_images, tiny_sam

ensure_torchvision()  # peft imports transformers, which imports torchvision
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that peft imports
    peft: Any = pytest.importorskip(
        "peft", reason="peft is not installed here: pip install 'peft>=0.20' to run these tests"
    )

pytestmark = pytest.mark.filterwarnings("default")
OURS = [
    ("lora", {"rank": 4, "alpha": 6.0}),
    ("lora", {"rank": 2, "split_qkv": True}),
    ("dora", {"rank": 4}),
    ("dora", {"rank": 0}),
    ("shira", {"density": 0.02}),
    ("shira", {"density": 0.05, "mask": "struct"}),
]
PEFTS = {
    "lora": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=SAM_LINEARS),
    "rslora and patterns": lambda: peft.LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, target_modules=SAM_LINEARS,
        rank_pattern={"qkv": 2}, alpha_pattern={r"blocks\.1\.mlp\.lin1": 3},
        modules_to_save=["neck"],
    ),
    "dora": lambda: peft.LoraConfig(r=4, use_dora=True, target_modules=SAM_LINEARS),
    "shira": lambda: peft.ShiraConfig(r=2, target_modules=SAM_LINEARS, random_seed=3),
}  # fmt: skip


def _difference(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one - two).norm() / two.norm())


@torch.no_grad()
def _embedded(model: Any) -> torch.Tensor:
    return encode(model, some_images())


def _peft_embedded(model: Any) -> torch.Tensor:
    return _embedded(model.get_base_model())


@pytest.mark.parametrize(("kind", "options"), OURS)
def test_peft_reads_ours(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    attached = attach(tiny_sam(), kind, **options)
    shake(attached)
    own = _embedded(attached.model)
    save(attached, tmp_path)
    read = peft.PeftModel.from_pretrained(tiny_sam(), tmp_path)
    assert _difference(own, _embedded(detach(attached))) > 1e-3
    assert _difference(_peft_embedded(read), own) <= 1e-6
    merged = read.merge_and_unload()
    assert _difference(_embedded(merged), own) <= 1e-6


@pytest.mark.parametrize("config", PEFTS)
def test_we_read_pefts(config: str, tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny_sam(), PEFTS[config]())
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=rng))
    own = _peft_embedded(model)
    model.save_pretrained(tmp_path)
    read = load(tiny_sam(), tmp_path)
    assert _difference(own, _embedded(tiny_sam())) > 1e-3
    assert _difference(_embedded(read.model), own) <= 1e-6


@pytest.mark.parametrize(("kind", "options"), OURS)
def test_there_and_back_it_is_the_same(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    attached = attach(tiny_sam(), kind, **options)
    shake(attached)
    save(attached, tmp_path / "ours")
    between = peft.PeftModel.from_pretrained(tiny_sam(), tmp_path / "ours")
    between.save_pretrained(tmp_path / "peft")
    back = load(tiny_sam(), tmp_path / "peft")
    found, own = _embedded(back.model), _embedded(attached.model)
    assert _difference(found, own) <= (0.0 if kind == "shira" else 1e-6)


def test_peft_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    save(attach(tiny_sam(), "shira_dora", density=0.02, rank=2), tmp_path)
    with pytest.raises(Exception, match="HWNAS_SHIRA_DORA"):
        peft.PeftModel.from_pretrained(tiny_sam(), tmp_path)
