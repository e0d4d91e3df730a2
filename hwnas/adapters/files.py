"""Adapters as files: `adapter_config.json` and `adapter_model.safetensors`, as peft has them.

LoRA, DoRA and SHiRA are written so that huggingface/peft reads them, and peft's are read. Other
kinds have a `peft_type` of their own, which peft refuses. What peft cannot say (options such as
`split_qkv`, which sparse entries are padding) stands in the metadata of the tensors, together
with a copy of the config by which files of two writings are told apart. Nothing is unpickled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import nn

from hwnas.adapters.attaching import AdapterSpec, Attached
from hwnas.adapters.contract import WeightAdapter
from hwnas.adapters.file_reading import (
    CONFIG,
    MODEL,
    PREFIX,
    AdapterFile,
    check_fits,
    read_adapter,
)
from hwnas.adapters.peft_format import PEFT_FORMATS
from hwnas.errors import CheckpointError, ConfigError
from hwnas.records.files import explained, replace_bytes
from hwnas.records.tensor_files import with_sorted_metadata

__all__ = ["load", "save"]


def save(
    attached: Attached, folder: str | Path, *names: str, modules_to_save: Sequence[str] = ()
) -> Path:
    """Write adapters, those named or all; each file is whole or not there.

    A single adapter lies in the folder itself. Of several, `default` does, and each of the others
    in a folder of its name within, as peft does it. `modules_to_save` names modules that were
    trained beside, such as `mask_decoder`, and go whole into each file.

    Raises:
        ConfigError: there is no such adapter or module, or a name cannot be a folder.
        RunError: the files cannot be written.
    """
    chosen = names or tuple(attached.specs)
    unknown = [name for name in chosen if name not in attached.specs]
    if unknown or not chosen:
        raise ConfigError(
            f"no adapter {', '.join(unknown) or 'to save'}; attached are "
            f"{', '.join(attached.specs) or 'none'}"
        )
    beside = _module_tensors(attached, modules_to_save)
    folder = Path(folder)
    for name in chosen:
        if len(chosen) > 1 and name != "default":
            if Path(name).name != name:
                raise ConfigError(f"adapter {name!r}: the name cannot be a folder; save it alone")
            _save_one(attached, name, folder / name, modules_to_save, beside)
        else:
            _save_one(attached, name, folder, modules_to_save, beside)
    return folder


def load(model: nn.Module | Attached, folder: str | Path, *, name: str = "default") -> Attached:
    """Attach the adapter that lies in a folder; it becomes the active one.

    The model is frozen and changed in place, as by `attach`; one that has adapters gets another.
    Modules that were saved beside the adapter are copied into it.

    Raises:
        CheckpointError: files are missing or damaged, hold something else, or do not fit the
            model; nothing is changed then.
        ConfigError: the name is taken.
        PluginError: the adapter is of a kind that is not installed here.
    """
    found = read_adapter(Path(folder))
    attached = model if isinstance(model, Attached) else Attached(model)
    if name in attached.specs:
        raise ConfigError(f"adapter {name!r} is attached already; choose another name")
    weights, beside = check_fits(found, attached.model)
    before, trained = attached.active, [p for p in attached.model.parameters() if p.requires_grad]
    if not isinstance(model, Attached):
        model.requires_grad_(False)
    codec = PEFT_FORMATS.get(found.peft_kind)
    options = found.options if codec is None else codec.constructed(found.options)
    attached.add(
        found.kind, targets="|".join(map(re.escape, found.layers)), name=name, gradients=weights,
        **options,
    )  # fmt: skip
    try:
        for path, adapter in attached.adapters(name).items():
            _fill(found, path, adapter)
    except (CheckpointError, RuntimeError) as error:
        attached.remove(name)
        attached.activate(*before)
        for parameter in trained:
            parameter.requires_grad_(True)
        raise CheckpointError(f"{found.source}: {error}") from error
    layers = attached.specs[name].layers
    attached.specs[name] = AdapterSpec(found.kind, dict(found.options), layers)
    with torch.no_grad():
        state = attached.model.state_dict()
        for key, value in beside.items():
            state[key].copy_(value)
    return attached


def _save_one(
    attached: Attached, name: str, folder: Path, modules: Sequence[str],
    beside: dict[str, torch.Tensor],
) -> None:  # fmt: skip
    spec, adapters = attached.specs[name], attached.adapters(name)
    codec = PEFT_FORMATS.get(spec.kind)
    encoded = None if codec is None else codec.encode(adapters)
    notes: dict[str, Any] = {"format_version": 1, "kind": spec.kind, "options": dict(spec.options)}
    config: dict[str, Any]
    if encoded is None:
        config = {
            "peft_type": f"HWNAS_{spec.kind.upper()}", "adapter_library": "hwnas",
            "format_version": 1,
        }  # fmt: skip
        layers = {path: dict(adapter.state_dict()) for path, adapter in adapters.items()}
    else:
        config, layers = encoded
        counts = {p: len(v) for p, a in adapters.items() if (v := getattr(a, "values", None))
                  is not None}  # fmt: skip
        notes["entries"] = counts
    config |= {
        "target_modules": "|".join(map(re.escape, adapters)), "inference_mode": True,
        "modules_to_save": list(modules) or None, "base_model_name_or_path": None,
        "task_type": None,
    }  # fmt: skip
    notes |= {"layers": list(adapters), "config": config}
    tensors = {f"{p}.{n}": t for p, found in layers.items() for n, t in found.items()} | beside
    kept = {PREFIX + key: t.detach().cpu().clone().contiguous() for key, t in tensors.items()}
    content = to_bytes(kept, {"format": "pt", "hwnas": json.dumps(notes, sort_keys=True)})
    with explained("make", folder):
        folder.mkdir(parents=True, exist_ok=True)
    # equal adapters are equal files
    replace_bytes(folder / MODEL, with_sorted_metadata(content))
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    replace_bytes(folder / CONFIG, text.encode())


def _module_tensors(attached: Attached, modules: Sequence[str]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for module in modules:
        inside = [path for path in attached.layers if f"{path}.".startswith(f"{module}.")]
        own = {k: v for k, v in attached.model.state_dict().items() if k.startswith(f"{module}.")}
        if inside or not own:
            why = f"has adapters inside ({inside[0]})" if inside else "is no module with weights"
            raise ConfigError(
                f"modules_to_save: {module!r} {why}; expected modules such as mask_decoder that "
                "were trained whole"
            )
        found |= own
    return found


def _fill(found: AdapterFile, path: str, adapter: WeightAdapter) -> None:
    codec, tensors = PEFT_FORMATS.get(found.peft_kind), found.layers[path]
    if codec is None:
        adapter.load_state_dict(tensors)
    else:
        codec.fill(adapter, tensors, found.entries.get(path))
