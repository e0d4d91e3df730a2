"""The two files of an adapter: peft's layout read, round trips, and files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hwnas.adapters import AdaptedLinear, attach, fuse, load, save
from hwnas.adapters.file_reading import CONFIG, MODEL
from hwnas.errors import CheckpointError, ConfigError, PluginError
from hwnas.supernet.sam_model import encode
from tests.adapters.tiny_sam import shake, some_images, step, tiny_sam

PREFIX = "base_model.model."
KINDS = [("lora", {"rank": 2}), ("dora", {"rank": 2}), ("shira", {"density": 0.05}),
         ("shira_dora", {"density": 0.05, "rank": 2})]  # fmt: skip


class Small(nn.Module):
    """Two layers to adapt, one of them a fused qkv, and a head that is trained whole."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.proj = nn.Linear(6, 18), nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out: torch.Tensor = self.head(self.proj(q * k + v))
        return out


X = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
LORA = {
    "peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["qkv", "proj"],
    "bias": "none", "fan_in_fan_out": False, "use_dora": False, "use_rslora": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "inference_mode": True,
    "init_lora_weights": True, "lora_dropout": 0.0, "peft_version": "0.21.2", "task_type": None,
}  # fmt: skip
SHIRA = {"peft_type": "SHIRA", "r": 1, "mask_type": "random", "target_modules": ["qkv", "proj"],
         "modules_to_save": None, "inference_mode": True, "random_seed": None}  # fmt: skip


def _written(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    """A folder as peft lays it out, by hand."""
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config))
    named = {PREFIX + name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(named, folder / MODEL, metadata={"format": "pt"})
    return folder


def _drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def _lora(rank: int = 2) -> dict[str, torch.Tensor]:
    return {
        "qkv.lora_A.weight": _drawn(rank, 6), "qkv.lora_B.weight": _drawn(18, rank),
        "proj.lora_A.weight": _drawn(rank, 6, seed=1), "proj.lora_B.weight": _drawn(6, rank),
    }  # fmt: skip


def _shira() -> dict[str, torch.Tensor]:
    tensors = {}
    for name, rows in (("qkv", 18), ("proj", 6)):
        flat = torch.randperm(rows * 6, generator=torch.Generator().manual_seed(rows))[: rows + 6]
        tensors[f"{name}.shira_weight"] = _drawn(rows + 6)
        tensors[f"{name}.shira_indices"] = torch.stack([flat // 6, flat % 6]).to(torch.int32)
    return tensors


def _expected(model: Small, change: Callable[[str, torch.Tensor], torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        for name in ("qkv", "proj"):
            layer = model.get_submodule(name)
            layer.get_parameter("weight").copy_(change(name, layer.get_parameter("weight")))
        return model(X)


def test_a_lora_of_peft_is_read(tmp_path: Path) -> None:
    tensors = _lora()
    attached = load(Small(), _written(tmp_path, LORA, tensors))
    assert attached.specs["default"].options == {"rank": 2, "alpha": 4.0}
    expected = _expected(
        Small(),
        lambda n, w: w + 2 * tensors[f"{n}.lora_B.weight"] @ tensors[f"{n}.lora_A.weight"],
    )
    torch.testing.assert_close(attached.model(X), expected, rtol=1e-5, atol=1e-4)


def test_patterns_and_rslora_are_read(tmp_path: Path) -> None:
    tensors = _lora() | {"qkv.lora_A.weight": _drawn(3, 6), "qkv.lora_B.weight": _drawn(18, 3)}
    config = LORA | {
        "rank_pattern": {"qkv": 3}, "alpha_pattern": {"qk.": 5}, "use_rslora": True,
    }  # fmt: skip
    attached = load(Small(), _written(tmp_path, config, tensors))
    factors = {"qkv": 5 / 3**0.5, "proj": 4 / 2**0.5}
    expected = _expected(
        Small(),
        lambda n, w: w + factors[n] * tensors[f"{n}.lora_B.weight"] @ tensors[f"{n}.lora_A.weight"],
    )
    torch.testing.assert_close(attached.model(X), expected, rtol=1e-5, atol=1e-4)


def test_a_dora_of_peft_is_read(tmp_path: Path) -> None:
    tensors = _lora() | {
        "qkv.lora_magnitude_vector": _drawn(18).abs(), "proj.lora_magnitude_vector": _drawn(6),
    }  # fmt: skip
    attached = load(Small(), _written(tmp_path, LORA | {"use_dora": True}, tensors))

    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        moved = weight + 2 * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        magnitude = tensors[f"{name}.lora_magnitude_vector"]
        return magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)

    expected = _expected(Small(), change)
    torch.testing.assert_close(attached.model(X), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])  # floats come from Windows
def test_a_shira_of_peft_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = _shira()
    for name in ("qkv", "proj"):
        tensors[f"{name}.shira_indices"] = tensors[f"{name}.shira_indices"].to(dtype)
    attached = load(Small(), _written(tmp_path, SHIRA, tensors))

    def change(name: str, weight: torch.Tensor) -> torch.Tensor:
        rows, columns = tensors[f"{name}.shira_indices"].long()
        return weight.index_put((rows, columns), tensors[f"{name}.shira_weight"], accumulate=True)

    expected = _expected(Small(), change)
    torch.testing.assert_close(attached.model(X), expected, rtol=1e-5, atol=1e-4)
    again = load(Small(), save(attached, tmp_path / "again"))
    assert torch.equal(again.model(X), attached.model(X))


def test_modules_trained_beside_are_copied(tmp_path: Path) -> None:
    tensors = _lora() | {"head.weight": _drawn(2, 6), "head.bias": _drawn(2)}
    attached = load(Small(), _written(tmp_path, LORA | {"modules_to_save": ["head"]}, tensors))
    head = attached.model.get_submodule("head")
    assert torch.equal(head.get_parameter("weight"), tensors["head.weight"])
    made = save(attached, tmp_path / "made", modules_to_save=["head"])
    other = load(Small(), made)
    assert torch.equal(other.model(X), attached.model(X))
    for wrong, why in (("qkv", "has adapters inside"), ("tail", "is no module with weights")):
        with pytest.raises(ConfigError, match=f"'{wrong}' {why}"):
            save(attached, tmp_path / "no", modules_to_save=[wrong])


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_written_names_are_those_of_peft(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    attached = attach(Small(), kind, targets="qkv|proj", **options)
    folder = save(attached, tmp_path / "made")
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, MODEL]
    config, tensors = json.loads((folder / CONFIG).read_text()), load_file(folder / MODEL)
    found = {name.removeprefix(f"{PREFIX}qkv."): t for name, t in tensors.items() if "qkv" in name}
    if kind in ("lora", "dora"):
        assert (config["peft_type"], config["use_dora"], config["r"]) == ("LORA", kind == "dora", 2)
        assert found["lora_A.weight"].shape == (2, 6)
        assert found["lora_B.weight"].shape == (18, 2)
        assert ("lora_magnitude_vector" in found) == (kind == "dora")
    elif kind == "shira":
        assert (config["peft_type"], config["r"]) == ("SHIRA", 1)
        assert found["shira_weight"].shape == (24,)  # r (18 + 6), of which 3 are no padding
        assert found["shira_indices"].shape == (2, 24)
        assert found["shira_indices"].dtype == torch.int32
        assert len({tuple(i) for i in found["shira_indices"].t().tolist()}) == 24
    else:
        assert config["peft_type"] == "HWNAS_SHIRA_DORA"


def test_a_pair_for_each_of_q_k_and_v_becomes_one_of_blocks(tmp_path: Path) -> None:
    attached = attach(Small(), "lora", targets="qkv|proj", rank=2, alpha=3.0, split_qkv=True)
    shake(attached)
    folder = save(attached, tmp_path)
    config, tensors = json.loads((folder / CONFIG).read_text()), load_file(folder / MODEL)
    assert (config["rank_pattern"], config["alpha_pattern"]) == ({"qkv": 6}, {"qkv": 9})
    layer = attached.layers["qkv"]
    a, b = (tensors[f"{PREFIX}qkv.lora_{n}.weight"] for n in "AB")
    torch.testing.assert_close(1.5 * b @ a, layer.adapter("default").delta(layer.whole))
    again = load(Small(), folder)
    assert torch.equal(again.model(X), attached.model(X))
    assert again.specs == attached.specs


def test_a_share_too_large_for_peft_is_written_all_the_same(tmp_path: Path) -> None:
    attached = attach(Small(), "shira", targets="qkv|proj", density=0.95)
    shake(attached)
    folder = save(attached, tmp_path / "made")
    assert json.loads((folder / CONFIG).read_text())["peft_type"] == "HWNAS_SHIRA"
    assert torch.equal(load(Small(), folder).model(X), attached.model(X))
    fuse(attached, "default", into="fused")
    folder = save(attached, tmp_path / "fused", "fused")
    assert torch.equal(load(Small(), folder).model(X), attached.model(X))


def test_several_adapters_lie_as_peft_lays_them(tmp_path: Path) -> None:
    attached = attach(Small(), "lora", targets="qkv|proj", rank=2)
    attached.add("shira", targets="proj", name="b2", density=0.1)
    attached.activate("default", "b2")
    shake(attached)
    save(attached, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [CONFIG, MODEL, "b2"]
    loaded = load(load(Small(), tmp_path), tmp_path / "b2", name="b2")
    assert loaded.active == ("b2",)
    loaded.activate("default", "b2")
    assert torch.equal(loaded.model(X), attached.model(X))
    save(attached, tmp_path / "alone", "b2")
    assert (tmp_path / "alone" / MODEL).is_file()
    with pytest.raises(ConfigError, match="'b2' is attached already"):
        load(loaded, tmp_path / "b2", name="b2")
    with pytest.raises(ConfigError, match="no adapter b9"):
        save(attached, tmp_path, "b9")


def test_a_loaded_adapter_trains_on(tmp_path: Path) -> None:
    attached = attach(tiny_sam(), "shira_dora", density=0.02, rank=2)
    step(attached, some_images(), 2)
    loaded = load(tiny_sam(), save(attached, tmp_path))
    with torch.no_grad():
        before = encode(loaded.model, some_images())
    step(loaded, some_images(), 2)
    with torch.no_grad():
        assert not torch.equal(encode(loaded.model, some_images()), before)
    assert not any(layer.weight.requires_grad for layer in loaded.layers.values())


def _cut(folder: Path) -> None:
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content[: len(content) // 2])


def _other_rank(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"lora_alpha": 77, "r": 5}))


def _pickled(folder: Path) -> None:
    (folder / MODEL).unlink()
    torch.save({}, folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / CONFIG).unlink(), rf"{CONFIG} missing; expected a folder"),
        (_pickled, r"adapter_model\.safetensors missing.*is a pickle and never read"),
        (lambda f: (f / CONFIG).write_text("{"), "cannot be read as an adapter .*no JSON"),
        (lambda f: (f / CONFIG).write_text("[]"), "list where fields were expected"),
        (_cut, "cannot be read as an adapter .*damaged: copy it again"),
        (_other_rank, "not of one writing, they differ in lora_alpha, r"),
        (lambda f: save_file({"a": torch.ones(1)}, f / MODEL), "tensor 'a'; .* not that of a mod"),
    ],
    ids=["config", "pickle", "json", "list", "cut", "writings", "model"],
)
def test_damaged_files_are_named(
    damage: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    folder = save(attach(Small(), "lora", targets="qkv|proj", rank=2), tmp_path)
    damage(folder)
    model = Small()
    with pytest.raises(CheckpointError, match=message):
        load(model, folder)
    assert not any(isinstance(m, AdaptedLinear) for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"peft_type": "VERA"}, _lora(), "peft_type 'VERA'; readable are LORA"),
        ({}, _lora(), "peft_type None"),
        (LORA | {"bias": "all"}, _lora(), "the LoRA uses bias, which cannot be read"),
        (LORA | {"use_qalora": True, "lora_bias": True}, _lora(), "uses lora_bias, use_qalora"),
        (LORA | {"init_lora_weights": "pissa_niter_4"}, _lora(), "it changes the base weights"),
        (LORA | {"alpha_pattern": {"(": 1}}, _lora(), "fields cannot be read"),
        (LORA, _shira(), r"4 tensors are not as expected: .*expected lora_A\.weight"),
        (LORA | {"use_dora": True}, _lora(), r"qkv\.lora_magnitude_vector \(missing\)"),
        (LORA, {"deep.qkv.lora_A.weight": _drawn(2, 6), "deep.qkv.lora_B.weight": _drawn(6, 2)},
         "1 problems: deep.qkv: the model has no such linear layer"),
        (LORA, _lora() | {"proj.lora_A.weight": _drawn(2, 9)},
         r"proj: \(6, 9\), expected a layer of \(6, 6\)"),
        (LORA, _lora() | {"proj.lora_A.weight": _drawn(3, 6)}, "proj: tensors that do not fit"),
        (LORA | {"modules_to_save": ["head"]}, _lora() | {"head.bias": _drawn(3)},
         r"head.bias: \(3,\), the model has \(2,\)"),
        (SHIRA, _shira() | {"qkv.shira_indices": torch.full((2, 24), 7, dtype=torch.int32)},
         r"qkv: \(8, 8\), expected a layer of \(18, 6\)"),
    ],
)  # fmt: skip
def test_foreign_and_mismatching_files_are_named(
    config: dict[str, Any], tensors: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    model = Small()
    with pytest.raises(CheckpointError, match=message):
        load(model, _written(tmp_path, config, tensors))
    assert not any(isinstance(m, AdaptedLinear) for m in model.modules())


def test_a_file_never_names_code_to_be_run(tmp_path: Path) -> None:
    folder = save(attach(Small(), "shira_dora", targets="proj", density=0.1, rank=2), tmp_path)
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content.replace(b'\\"shira_dora\\"', b'\\"./evil2.py\\"'))
    with pytest.raises(PluginError, match=r"kind './evil2.py', which is not installed here"):
        load(Small(), folder)


def test_tensors_of_an_own_kind_that_do_not_fit_are_taken_back(tmp_path: Path) -> None:
    folder = save(attach(Small(), "shira_dora", targets="proj", density=0.1, rank=2), tmp_path)
    bigger = Small()
    bigger.proj = nn.Linear(9, 6)
    with pytest.raises(CheckpointError, match="size mismatch"):
        load(bigger, folder)
    assert isinstance(bigger.proj, nn.Linear)
    assert all(p.requires_grad for p in bigger.parameters())


def test_writing_again_replaces_both_files_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = attach(Small(), "lora", targets="qkv|proj", rank=2)
    save(attached, tmp_path)
    first = attached.model(X).detach().clone()
    shake(attached)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        with pytest.raises(Exception, match="disk is full"):
            save(attached, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [CONFIG, MODEL]
    assert torch.equal(load(Small(), tmp_path).model(X), first)
    save(attached, tmp_path)
    assert torch.equal(load(Small(), tmp_path).model(X), attached.model(X))


def test_equal_adapters_are_equal_files(tmp_path: Path) -> None:
    attached = attach(tiny_sam(), "lora", rank=2)
    written = set()
    for turn in range(8):  # the order of metadata is drawn anew each time
        save(attached, tmp_path / str(turn))
        written.add((tmp_path / str(turn) / MODEL).read_bytes())
    assert len(written) == 1
    load(tiny_sam(), tmp_path / "0")
