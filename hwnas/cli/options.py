"""From command-line spellings to the keys of a search configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from hwnas.errors import ConfigError

__all__ = ["with_limits", "with_recipe_settings", "with_settings"]


def with_limits(
    content: dict[str, object], limits: Sequence[str] | None, aliases: Mapping[str, float | None]
) -> dict[str, object]:
    """Add `--limit` and its aliases (`latency<=` with a value) as the key `limits`."""
    given = list(limits or ())
    given += [f"{prefix}{value:.12g}" for prefix, value in aliases.items() if value is not None]
    return {**content, "limits": given} if given else content


def with_settings(content: dict[str, object], settings: Sequence[str]) -> dict[str, object]:
    """Add `--set cost.NAME.OPTION=VALUE` and `--set freeze.GENE=VALUE`.

    Raises:
        ConfigError: naming every setting of another form.
    """
    options: dict[str, dict[str, object]] = {}
    freeze: dict[str, object] = {}
    wrong = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        kind, _, rest = path.partition(".")
        name, dot, option = rest.partition(".")
        if equals and kind == "cost" and dot and option:
            options.setdefault(name, {})[option] = yaml.safe_load(text)
        elif equals and kind == "freeze" and rest:
            freeze[rest] = yaml.safe_load(text)
        else:
            wrong.append(setting)
    if wrong:
        raise ConfigError(
            f"--set {', '.join(wrong)}: expected cost.NAME.OPTION=VALUE or freeze.GENE=VALUE"
        )
    extra = {k: v for k, v in (("options", options), ("freeze", freeze)) if v}
    return {**content, **extra}


def with_recipe_settings(
    given: Mapping[str, object | None], settings: Sequence[str]
) -> dict[str, object]:
    """The changed keys of a recipe, from options and `--set KEY=VALUE`; dots reach inside.

    Raises:
        ConfigError: naming every setting of another form.
    """
    changed = {key: value for key, value in given.items() if value is not None}
    wrong = [setting for setting in settings if not setting.partition("=")[1]]
    if wrong:
        raise ConfigError(f"--set {', '.join(wrong)}: expected KEY=VALUE, as adapter.rank=4")
    for setting in settings:
        key, _, text = setting.partition("=")
        changed[key] = yaml.safe_load(text)
    return changed
