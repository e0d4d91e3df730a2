"""HTML that is escaped unless it was built here: nothing a plug-in names can become markup."""

from __future__ import annotations

import html
import json

__all__ = ["Markup", "breakable", "element", "join", "json_script"]

_VOID = frozenset({"img", "meta", "wbr"})


class Markup(str):
    """Text that is HTML already; every other string is escaped where it enters an element."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | bool) -> Markup:
    """One element with its children.

    A trailing underscore of an attribute is dropped and the others become hyphens (`class_`,
    `data_value`); True gives a bare attribute, False none.
    """
    parts = [tag]
    for key, value in attributes.items():
        name = key.removesuffix("_").replace("_", "-")
        if value is True:
            parts.append(name)
        elif value is not False:
            parts.append(f'{name}="{html.escape(value)}"')
    opening = f"<{' '.join(parts)}>"
    return Markup(opening if tag in _VOID else f"{opening}{join(*children)}</{tag}>")


def join(*children: str) -> Markup:
    """Children one after another."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(c) for c in children))


def breakable(name: str) -> Markup:
    """A name that may break its line behind each underscore."""
    first, *rest = name.split("_")
    return join(first, *(join("_", element("wbr"), part) for part in rest))


def json_script(name: str, value: object) -> Markup:
    """A data block that scripts read by its id; it cannot end its own script element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    safe = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    opening = f'<script type="application/json" id="{html.escape(name)}">'
    return Markup(f"{opening}{safe}</script>")
