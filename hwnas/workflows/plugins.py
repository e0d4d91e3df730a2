"""What is installed: lists and descriptions of cost models, search spaces and adapters."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from hwnas.errors import HwnasError
from hwnas.registry import Registry, adapters, cost_models, search_spaces
from hwnas.space import SearchSpace, load_space

__all__ = [
    "list_adapters",
    "list_costs",
    "list_spaces",
    "show_adapter",
    "show_cost",
    "show_space",
]

Row = dict[str, object]

_COLUMNS = {
    cost_models.group: ("unit", "direction"),
    search_spaces.group: ("size",),
    adapters.group: ("role",),
}


def list_costs() -> list[Row]:
    """One row a cost model; one that does not load is listed with its problem."""
    return _listed(cost_models, _cost_facts)


def list_spaces() -> list[Row]:
    """One row a search space; one that does not load is listed with its problem."""
    return _listed(search_spaces, _space_facts)


def list_adapters() -> list[Row]:
    """One row an adapter; one that does not load is listed with its problem."""
    return _listed(adapters, _adapter_facts)


def show_adapter(spec: str) -> list[Row]:
    """What an adapter does to a weight, and its options with their defaults.

    Raises:
        PluginError: nothing answers to `spec`.
    """
    plugin = adapters.load(spec)
    return _described(plugin, {"name": spec, **_adapter_facts(plugin)})


def show_cost(spec: str) -> list[Row]:
    """What a cost model computes, and its options with their defaults.

    Raises:
        PluginError: nothing answers to `spec`.
    """
    plugin = cost_models.load(spec)
    return _described(plugin, {"name": spec, **_cost_facts(plugin)})


def _described(plugin: object, facts: Row) -> list[Row]:
    facts["description"] = " ".join((inspect.getdoc(plugin) or "none").split())
    options = [p for p in _parameters(plugin) if p.kind is p.KEYWORD_ONLY and p.name != "rng"]
    for option in options:
        facts[f"option {option.name}"] = f"{option.default!r} ({_annotation(option)})"
    return [{"what": key, "value": value} for key, value in facts.items()]


def show_space(spec: str) -> list[Row]:
    """The size of a space and one row a choice.

    Raises:
        PluginError: nothing answers to `spec`.
    """
    space = load_space(spec)
    size = f"{space.size():.4g}" if space.size() > 10**9 else f"{space.size():,}"
    rows: list[Row] = [
        {
            "gene": gene.name,
            "options": ", ".join(map(str, gene.options)),
            "kind": "ordered" if gene.ordered else "unordered",
            "role": gene.role,
            "conditional": "yes" if gene.conditional else "no",
        }
        for gene in space.genes
    ]
    bound = "" if space.size_is_exact else "at most "
    total: Row = {key: "" for key in rows[0]}
    total["gene"] = space.name
    total["options"] = f"{bound}{size} architectures, {space.n_var} variables"
    return [total, *rows]


def _listed(registry: Registry, facts: Callable[[Any], Row]) -> list[Row]:
    rows = []
    for entry in registry.listing():
        row: Row = {"name": entry.name}
        try:
            row |= facts(registry.load(entry.name))
        except HwnasError as error:
            row |= dict.fromkeys(_COLUMNS[registry.group])
            row |= {"about": f"broken: {error}"}
        rows.append(row | {"from": entry.distribution})
    return rows


def _cost_facts(plugin: object) -> Row:
    return {
        "unit": getattr(plugin, "unit", None),
        "direction": getattr(plugin, "direction", None),
        "about": _first_sentence(plugin),
    }


def _adapter_facts(plugin: object) -> Row:
    return {"role": getattr(plugin, "role", None), "about": _first_sentence(plugin)}


def _space_facts(plugin: Any) -> Row:
    space: SearchSpace = plugin() if callable(plugin) else plugin
    return {"size": f"{space.size():.3g}", "about": space.description or _first_sentence(plugin)}


def _first_sentence(plugin: object) -> str:
    return (inspect.getdoc(plugin) or "").partition("\n\n")[0].replace("\n", " ")


def _parameters(plugin: object) -> list[inspect.Parameter]:
    return list(inspect.signature(plugin).parameters.values()) if callable(plugin) else []


def _annotation(parameter: inspect.Parameter) -> str:
    kind = parameter.annotation
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
