"""Spaces that are part of another one, written in YAML: what a study proposes, a search reads.

    base: sam-vit-t
    name: small
    keep:
      resolution: [256, 384]
      blocks.*.lin2.a_bits: [4, 8]

The part has the base's layers, supernet and constraints, and keeps its name in ids: an
architecture of the part is the same architecture of the base, so that evaluations are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import ConfigError, HwnasError, SpaceError
from hwnas.registry.loading import split_file_spec
from hwnas.space.declarations import Scalar, option_key
from hwnas.space.messages import gathered, matching, nearest, shown
from hwnas.space.space import SearchSpace

if TYPE_CHECKING:
    from hwnas.space.yaml_models import DerivedModel

__all__ = ["WITH_AXES", "derived_from_yaml", "derived_yaml", "optional_axes", "with_axes"]

WITH_AXES = "with_axes"
"""Key of `SearchSpace.extras`: names of optional axes -> the space with these added."""

_AXES = "optional_axes"


def derived_from_yaml(path: str | Path) -> SearchSpace:
    """Read a derived space. A base that is a file is looked for beside the file that names it.

    Raises:
        ConfigError: the file cannot be read, the base cannot be loaded, or genes or options of
            `keep` are unknown, or nothing is left; lists every problem of the file.
    """
    return _read(Path(path), ())


def derived_yaml(
    base: str,
    keep: Mapping[str, Sequence[Scalar]],
    *,
    name: str = "",
    description: str = "",
    axes: Sequence[str] = (),
) -> str:
    """Return the text of a derived space: `derived_from_yaml` reads it back."""
    import yaml

    head: dict[str, Any] = {"base": base}
    head |= {k: v for k, v in (("name", name), ("description", description)) if v}
    head |= {"axes": list(axes)} if axes else {}
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=98)
    kept = {gene: list(options) for gene, options in keep.items()}
    return text + yaml.safe_dump(
        {"keep": kept}, sort_keys=False, allow_unicode=True, default_flow_style=None, width=98
    )


def optional_axes(space: SearchSpace) -> tuple[str, ...]:
    """Names of the axes that the space could have and has not."""
    present = {gene.name for gene in space.genes}
    return tuple(name for name in space.extras.get(_AXES, ()) if name not in present)


def with_axes(space: SearchSpace, axes: Sequence[str]) -> SearchSpace:
    """Return the space with optional axes added, and what was kept of its other genes.

    Raises:
        SpaceError: an axis that the space does not offer; names the nearest.
    """
    offered = space.extras.get(_AXES, ())
    wrong = [axis for axis in axes if axis not in offered]
    if wrong:
        hint = nearest(wrong[0], list(offered)) if offered else "; it offers none"
        raise SpaceError(f"space '{space.name}' has no optional axis {shown(wrong)}{hint}")
    grown: SearchSpace = space.extras[WITH_AXES](tuple(axes))
    return grown.restrict({gene.name: gene.options for gene in space.genes})


def _read(path: Path, seen: tuple[Path, ...]) -> SearchSpace:
    from pydantic import ValidationError

    from hwnas.config import config_error, read_yaml
    from hwnas.space.yaml_models import DerivedModel

    here = path.resolve()
    if here in seen:
        chain = " -> ".join(str(file) for file in (*seen, here))
        raise ConfigError(f"{path}: a space cannot be its own base ({chain}); name another base")
    try:
        model = DerivedModel.model_validate(read_yaml(path))
    except ValidationError as error:
        raise config_error(str(path), error, DerivedModel) from error
    try:
        base = _base(model.base, path, (*seen, here))
        base = with_axes(base, model.axes) if model.axes else base
    except HwnasError as error:
        raise ConfigError(gathered(str(path), [f"base {model.base!r}: {error}"])) from error
    return _part(base, model, path)


def _base(spec: str, path: Path, seen: tuple[Path, ...]) -> SearchSpace:
    from hwnas.config import read_yaml
    from hwnas.space.loading import load_space

    file = split_file_spec(spec)
    if file is not None:
        beside = path.parent / file[0]
        return load_space(f"{beside}:{file[1]}" if file[1] else str(beside))
    if Path(spec).suffix not in {".yaml", ".yml"}:
        return load_space(spec)
    beside = path.parent / spec
    return _read(beside, seen) if "base" in read_yaml(beside) else load_space(str(beside))


def _part(base: SearchSpace, model: DerivedModel, path: Path) -> SearchSpace:
    kept, problems = _kept(base, model.keep)
    if problems:
        raise ConfigError(gathered(str(path), problems))
    about = f"{model.name or path.stem}, part of {base.name}"
    about += f": {model.description}" if model.description else ""
    try:
        space = base.restrict(kept, description=about)
        space.largest()  # a constraint may allow none of what is left
    except SpaceError as error:
        raise ConfigError(gathered(str(path), [str(error)])) from error
    return space


def _kept(
    base: SearchSpace, keep: Mapping[str, Sequence[Scalar]]
) -> tuple[dict[str, tuple[Scalar, ...]], list[str]]:
    """The options left of each gene named; where two patterns name a gene, those in both."""
    left = {gene.name: gene.options for gene in base.genes}
    named: dict[str, None] = {}
    problems = []
    for pattern, wanted in keep.items():
        try:
            names = matching(pattern, list(left), where="keep")
        except SpaceError as error:
            problems.append(str(error))
            continue
        options = [o for name in names for o in base.gene(name).options]
        known = {option_key(o): o for o in options}
        bad = [o for o in wanted if option_key(o) not in known]
        if bad:
            problems.append(
                f"keep.{pattern}: {shown(bad)} not among the base's options {shown(known.values())}"
            )
            continue
        keys = {option_key(o) for o in wanted}
        left |= {n: tuple(o for o in left[n] if option_key(o) in keys) for n in names}
        named |= dict.fromkeys(names)
    empty = [name for name in named if not left[name]]
    if empty:
        problems.append(f"keep: no option is left of {shown(empty)}; keep at least one of each")
    return {name: left[name] for name in named}, problems
