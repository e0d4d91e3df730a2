"""What the values of a cost model depend on, so that kept ones are never taken for another's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.cost import CostContext, CostModel, declared_needs
from hwnas.registry.loading import split_file_spec
from hwnas.space import SearchSpace

__all__ = ["fingerprint_of", "named_settings", "space_settings", "spelled", "weights_of"]


def fingerprint_of(
    model: CostModel, spec: object, options: Mapping[str, Any], context: CostContext
) -> dict[str, Any]:
    """Equal fingerprints, equal values; plain JSON.

    Spec and options, the files that they name, and of the context what the model declares in
    `needs`: device, weights with the seed, pixels and objects of the images.
    """
    found: dict[str, Any] = {"spec": spelled(spec), "options": dict(options)}
    file = split_file_spec(spec) if isinstance(spec, str) else None
    files = [*([] if file is None else [Path(file[0])]), *_files_of(model)]
    if files:
        found["sha256"] = [_digest(path) for path in files]
    needs = declared_needs(model)
    if "device" in needs and context.device is not None:
        found["device"] = context.device.key
    if "supernet" in needs:
        found |= {"supernet": weights_of(context), "seed": context.seed}
    if "data" in needs:
        from hwnas.workflows.study.options import hash_images

        found["images"] = hash_images(context.require("data", by=model.name))
    plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
    return plain


def named_settings(name: str, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint as settings of a study, so that a refusal says which part of it differs."""
    return {f"{name}.{part}": value for part, value in fingerprint.items()}


def space_settings(space: SearchSpace) -> dict[str, Any]:
    """Name of a space, and sha256 (hex) over its genes with the options that are left of them."""
    genes = {gene.name: list(gene.options) for gene in space.genes}
    text = json.dumps(genes, sort_keys=True, default=str)
    return {"space": space.name, "genes_sha256": hashlib.sha256(text.encode()).hexdigest()}


def spelled(spec: object) -> str:
    """A spec as text: a class or a finished model by its name."""
    if isinstance(spec, str):
        return spec
    kind = spec if isinstance(spec, type) else type(spec)
    return f"{kind.__module__}:{kind.__qualname__}"


def weights_of(context: CostContext) -> str | None:
    """Identity of the supernet's weights; None where it has no tensors."""
    from hwnas.supernet.identity import supernet_identity

    return supernet_identity(context.require("supernet", by="the study"))


def _files_of(model: CostModel) -> tuple[Path, ...]:
    return tuple(map(Path, getattr(model, "input_files", ())))


def _digest(path: Path) -> str:
    found = path.expanduser()
    # the model that reads a file says best what is wrong with it
    return hashlib.sha256(found.read_bytes()).hexdigest() if found.is_file() else "missing"
