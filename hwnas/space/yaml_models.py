"""The form of a search space in YAML, as strict pydantic models."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from hwnas.space.constraints import Constraint, at_most, implies
from hwnas.space.declarations import (
    Choice,
    Declaration,
    Role,
    Scalar,
    choice,
    ordinal,
    repeat,
)
from hwnas.space.messages import Problems

Value: TypeAlias = StrictBool | StrictInt | StrictFloat | StrictStr
Options: TypeAlias = Annotated[list[Value], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OrdinalModel(_Strict):
    """An ordered choice; options from the smallest to the largest."""

    kind: Literal["ordinal"]
    name: str = Field(description="letters, digits, _ and -, in parts joined by dots")
    options: Options
    role: Role = Field("other", description="what the choice is about, for reference designs")

    @model_validator(mode="after")
    def _declares(self) -> OrdinalModel:
        _checked(self)
        return self

    def declared(self) -> Choice:
        """Return the declaration."""
        return ordinal(self.name, self.options, role=self.role)


class ChoiceModel(_Strict):
    """An unordered choice."""

    kind: Literal["choice"]
    name: str = Field(description="letters, digits, _ and -, in parts joined by dots")
    options: Options
    role: Role = Field("other", description="what the choice is about, for reference designs")

    @model_validator(mode="after")
    def _declares(self) -> ChoiceModel:
        _checked(self)
        return self

    def declared(self) -> Choice:
        """Return the declaration."""
        return choice(self.name, self.options, role=self.role)


class RepeatModel(_Strict):
    """The same choices for each block; genes are `name.index.choice`."""

    kind: Literal["repeat"]
    name: str
    indices: PositiveInt | list[StrictInt] = Field(description="a count, or the indexes themselves")
    choices: list[DeclarationModel]
    depth: str | None = Field(None, description="ordinal whose value k keeps the first k blocks")
    keep_order: list[StrictInt] | None = Field(
        None, description="the indices in the order in which a growing depth takes them in"
    )

    @model_validator(mode="after")
    def _declares(self) -> RepeatModel:
        _checked(self)
        return self

    def declared(self) -> Declaration:
        """Return the declaration."""
        inner = [c.declared() for c in self.choices]
        return repeat(self.name, self.indices, inner, depth=self.depth, keep_order=self.keep_order)


DeclarationModel: TypeAlias = Annotated[
    OrdinalModel | ChoiceModel | RepeatModel, Field(discriminator="kind")
]


class ImpliesModel(_Strict):
    """Whenever all of `if` hold, each gene of `then` has one of its values."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=False)

    kind: Literal["implies"]
    given: dict[str, Value | list[Value]] = Field(alias="if", min_length=1)
    then: dict[str, Value | list[Value]] = Field(min_length=1)

    def declared(self) -> Constraint:
        """Return the constraint."""
        return implies(self.given, self.then)


class AtMostModel(_Strict):
    """The value of `low` (a name or a glob) never exceeds that of `high`."""

    kind: Literal["at_most"]
    low: str
    high: str

    def declared(self) -> Constraint:
        """Return the constraint."""
        return at_most(self.low, self.high)


ConstraintModel: TypeAlias = Annotated[ImpliesModel | AtMostModel, Field(discriminator="kind")]


class SpaceModel(_Strict):
    """A search space: choices, and what ties or restricts them."""

    name: str = Field(min_length=1, description="part of the id of every architecture")
    description: str = ""
    choices: list[DeclarationModel] = Field(min_length=1)
    links: list[list[str]] = Field(
        default_factory=list, description="lists of names or globs of genes with one value"
    )
    constraints: list[ConstraintModel] = Field(default_factory=list)
    only: dict[str, Options] = Field(
        default_factory=dict, description="options that are left of genes (names or globs)"
    )
    freeze: dict[str, Value] = Field(
        default_factory=dict, description="genes (names or globs) that keep one value"
    )
    supernet: str | None = Field(None, description="registered name of a weight-sharing network")

    @model_validator(mode="after")
    def _once(self) -> SpaceModel:
        both = sorted(set(self.only) & set(self.freeze))
        if both:
            raise ValueError(f"under only and under freeze: {', '.join(both)}; keep one of them")
        return self

    def left(self) -> dict[str, list[Scalar]]:
        """Return the options that are left, of `only` and `freeze` together."""
        return {**self.only, **{name: [value] for name, value in self.freeze.items()}}


class DerivedModel(_Strict):
    """A part of another space: the options of some genes that are kept, all else as it is."""

    base: str = Field(min_length=1, description="name or file of the space that this is part of")
    name: str = Field("", description="label for people; ids of architectures are the base's")
    description: str = ""
    axes: list[str] = Field(
        default_factory=list, description="optional axes of the base to add, such as token_grid"
    )
    keep: dict[str, Options] = Field(
        default_factory=dict, description="options that are kept, by gene (name or glob)"
    )


def _checked(model: OrdinalModel | ChoiceModel | RepeatModel) -> None:
    try:
        model.declared()
    except Problems as error:
        raise ValueError("; ".join(error.lines)) from error
