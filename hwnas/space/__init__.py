"""Search spaces: declarations, architectures, and their integer and feature forms."""

from hwnas.space.arch import Arch
from hwnas.space.archs import Archs
from hwnas.space.constraints import Constraint, at_most, implies, require
from hwnas.space.declarations import Choice, Declaration, Repeat, Scalar, choice, ordinal, repeat
from hwnas.space.genes import Gene
from hwnas.space.links import Link, link
from hwnas.space.loading import load_space
from hwnas.space.slots import Slot
from hwnas.space.space import SearchSpace
from hwnas.space.yaml_space import space_from_yaml, yaml_schema

__all__ = [
    "Arch",
    "Archs",
    "Choice",
    "Constraint",
    "Declaration",
    "Gene",
    "Link",
    "Repeat",
    "Scalar",
    "SearchSpace",
    "Slot",
    "at_most",
    "choice",
    "implies",
    "link",
    "load_space",
    "ordinal",
    "repeat",
    "require",
    "space_from_yaml",
    "yaml_schema",
]
