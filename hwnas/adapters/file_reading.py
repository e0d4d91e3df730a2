"""The two files of an adapter, read and checked before a model is touched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import nn

from hwnas.adapters.adapted_linear import AdaptedLinear
from hwnas.adapters.peft_format import PEFT_FORMATS, Tensors, foreign_format
from hwnas.errors import CheckpointError, PluginError
from hwnas.registry import adapters as registry

__all__ = ["CONFIG", "MODEL", "PREFIX", "AdapterFile", "check_fits", "read_adapter"]

CONFIG, MODEL = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
_PICKLED = "adapter_model.bin"


@dataclass(frozen=True)
class AdapterFile:
    """An adapter that has been read.

    Attributes:
        source: Its folder, for messages.
        kind: Our registered name, with its `options`.
        peft_kind: The name of its format among `PEFT_FORMATS`, or empty for a format of our own.
        layers: Tensors by layer.
        beside: Tensors of whole modules, by their names in the model.
        entries: How many sparse entries of a layer are no padding.
    """

    source: str
    kind: str
    options: dict[str, Any]
    peft_kind: str
    layers: dict[str, Tensors]
    beside: dict[str, torch.Tensor] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)


def read_adapter(folder: Path) -> AdapterFile:
    """Read a folder; raises CheckpointError or PluginError as `load` does."""
    config, (tensors, metadata) = _read_config(folder), _read_tensors(folder)
    source = str(folder)
    modules = config.get("modules_to_save") or []
    # peft names modules by the end of their path
    beside = {k: t for k, t in tensors.items() if any(f".{m}." in f".{k}" for m in modules)}
    own = {k: t for k, t in tensors.items() if k not in beside}
    if "hwnas" in metadata:
        return _own(source, config, _notes(source, metadata["hwnas"]), own, beside)
    kind = foreign_format(config, source)
    codec = PEFT_FORMATS[kind]
    layers = _by_suffix(source, own, codec.suffixes, modules)
    try:
        options, layers = codec.options(config, layers)
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError, re.error) as error:
        raise _damaged(source, f"its fields cannot be read: {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return AdapterFile(source, kind, options, kind, layers, beside)


def check_fits(
    found: AdapterFile, model: nn.Module
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The weights of the layers of a file, and its tensors for whole modules, all in a model.

    Raises:
        CheckpointError: a layer or module is absent, or has another shape; all are named.
    """
    modules, state = dict(model.named_modules()), model.state_dict()
    weights, problems = {}, []
    codec = PEFT_FORMATS.get(found.peft_kind)
    for path, tensors in found.layers.items():
        layer = modules.get(path)
        if not isinstance(layer, nn.Linear | AdaptedLinear):
            problems.append(f"{path}: the model has no such linear layer")
            continue
        weights[path] = layer.weight.detach()
        shape = (layer.out_features, layer.in_features)
        says = shape if codec is None else codec.shape(tensors)
        if says is None or not _same(says, shape, sparse=found.peft_kind == "shira"):
            got = "tensors that do not fit together" if says is None else f"{says}"
            problems.append(f"{path}: {got}, expected a layer of {shape}")
    for key, value in found.beside.items():
        if key not in state or state[key].shape != value.shape:
            has = tuple(state[key].shape) if key in state else "nothing"
            problems.append(f"{key}: {tuple(value.shape)}, the model has {has}")
    if problems:
        raise CheckpointError(
            f"{found.source} does not fit the model: {len(problems)} problems: "
            f"{'; '.join(problems[:6])}; load it into the model that it was trained on"
        )
    return weights, found.beside


def _same(says: tuple[int, int], shape: tuple[int, int], *, sparse: bool) -> bool:
    """Sparse entries say the least size that a layer can have, the others its size."""
    if sparse:
        return says[0] <= shape[0] and says[1] <= shape[1]
    return says == shape


def _read_config(folder: Path) -> dict[str, Any]:
    missing = [name for name in (CONFIG, MODEL) if not (folder / name).is_file()]
    if missing:
        pickled = (folder / _PICKLED).is_file()
        what = f"; it has {_PICKLED}, which is a pickle and never read: save it as safetensors"
        raise CheckpointError(
            f"{folder}: {' and '.join(missing)} missing; expected a folder that "
            f"hwnas.adapters.save or peft's save_pretrained wrote{what if pickled else ''}"
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise _damaged(str(folder / CONFIG), f"no JSON: {error}") from error
    if not isinstance(config, dict):
        raise _damaged(str(folder / CONFIG), f"{type(config).__name__} where fields were expected")
    return config


def _read_tensors(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    path = folder / MODEL
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            metadata = dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(str(path), str(error).splitlines()[0]) from error
    foreign = [name for name in tensors if not name.startswith(PREFIX)]
    if foreign or not tensors:
        what = f"tensor {foreign[0]!r}" if foreign else "no tensors"
        raise CheckpointError(
            f"{path}: {what}; expected names that begin with {PREFIX}, as adapters have: give the "
            "folder of an adapter, not that of a model"
        )
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}, metadata


def _notes(source: str, text: str) -> dict[str, Any]:
    try:
        notes = json.loads(text)
        if notes["format_version"] != 1:
            raise CheckpointError(
                f"{source}: format {notes['format_version']}, this version reads 1; install a "
                "newer hwnas"
            )
        return {name: notes[name] for name in ("kind", "options", "layers", "config")} | {
            "entries": notes.get("entries", {})
        }
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(source, f"its metadata: {type(error).__name__}: {error}") from error


def _own(
    source: str, config: Mapping[str, Any], notes: dict[str, Any],
    tensors: dict[str, torch.Tensor], beside: dict[str, torch.Tensor],
) -> AdapterFile:  # fmt: skip
    """What `save` wrote; a file never names code to be run, only what is registered."""
    differ = sorted(k for k, v in notes["config"].items() if config.get(k) != v)
    if differ:
        raise CheckpointError(
            f"{source}: {CONFIG} and {MODEL} are not of one writing, they differ in "
            f"{', '.join(differ)}; copy both files again, or save the adapter anew"
        )
    kind = notes["kind"]
    if kind not in registry.names():
        raise PluginError(
            f"{source}: the adapter is of kind {kind!r}, which is not installed here (known: "
            f"{', '.join(registry.names())}); install the package that announces it, or load its "
            "file first: hwnas.registry.adapters.load('./my_adapter.py')"
        )
    peft_kind = "" if "adapter_library" in config else kind
    if peft_kind:
        suffixes = PEFT_FORMATS[kind].suffixes
        layers = _by_suffix(source, tensors, suffixes, config.get("modules_to_save") or [])
    else:
        layers = _by_layer(source, tensors, notes["layers"])
    if sorted(layers) != sorted(notes["layers"]):
        raise _damaged(source, "layers are missing")
    entries = {path: int(count) for path, count in notes["entries"].items()}
    return AdapterFile(source, kind, dict(notes["options"]), peft_kind, layers, beside, entries)


def _by_suffix(
    source: str, tensors: dict[str, torch.Tensor], suffixes: tuple[str, ...], modules: list[str]
) -> dict[str, Tensors]:
    """The tensors of each layer; every layer must have all, and nothing may be left over."""
    layers: dict[str, Tensors] = {}
    strange = []
    for name, tensor in tensors.items():
        suffix = next((s for s in suffixes if name.endswith(f".{s}")), None)
        if suffix is None:
            strange.append(name)
        else:
            layers.setdefault(name.removesuffix(f".{suffix}"), {})[suffix] = tensor
    strange += [f"{p}.{s} (missing)" for p, t in layers.items() for s in suffixes if s not in t]
    if strange:
        raise CheckpointError(
            f"{source}: {len(strange)} tensors are not as expected: {', '.join(strange[:6])}; "
            f"expected {', '.join(suffixes)} of each layer, and the modules_to_save "
            f"({', '.join(modules) or 'none'}): the file is damaged, or of another kind"
        )
    return layers


def _by_layer(
    source: str, tensors: dict[str, torch.Tensor], paths: list[str]
) -> dict[str, Tensors]:
    layers: dict[str, Tensors] = {}
    for name, tensor in tensors.items():
        path = max((p for p in paths if name.startswith(f"{p}.")), key=len, default=None)
        if path is None:
            raise _damaged(source, f"unexpected tensor {name}")
        layers.setdefault(path, {})[name.removeprefix(f"{path}.")] = tensor
    return layers


def _damaged(source: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{source}: cannot be read as an adapter ({what}); the file is damaged: copy it again, or "
        "save the adapter anew"
    )
