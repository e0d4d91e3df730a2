"""Search spaces that are written in YAML: choices only, no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError, SpaceError
from hwnas.space.links import link
from hwnas.space.messages import Problems, gathered
from hwnas.space.space import SearchSpace


def space_from_yaml(path: str | Path) -> SearchSpace:
    """Read a search space; the form is that of `yaml_schema`.

    Such a space has no `lower`: predictors use its features, and analytic cost models refuse it.
    A file with the key `base` is part of another space and has all that one has; see
    `hwnas.space.derived`.

    Raises:
        ConfigError: the file cannot be read, or is not a space; lists every problem found.
    """
    # pydantic takes a quarter of a second to import, and most runs read no space from YAML.
    from pydantic import ValidationError

    from hwnas.config import config_error, read_yaml
    from hwnas.space.derived import derived_from_yaml
    from hwnas.space.yaml_models import SpaceModel

    content = read_yaml(path)
    if "base" in content:
        return derived_from_yaml(path)
    try:
        model = SpaceModel.model_validate(content)
    except ValidationError as error:
        raise config_error(str(path), error, SpaceModel) from error
    try:
        return SearchSpace(
            model.name,
            [c.declared() for c in model.choices],
            constraints=[c.declared() for c in model.constraints],
            links=[link(*patterns) for patterns in model.links],
            supernet=model.supernet,
            description=model.description,
            only=model.left(),
        )
    except SpaceError as error:
        lines = error.lines if isinstance(error, Problems) else (str(error),)
        raise ConfigError(gathered(str(path), lines)) from error


def yaml_schema() -> dict[str, Any]:
    """Return the JSON schema of a search space in YAML."""
    from hwnas.space.yaml_models import SpaceModel

    return SpaceModel.model_json_schema()
