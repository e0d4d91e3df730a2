"""The configuration of one search: everything that decides its result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hwnas.config.measuring import MeasuringConfig, make_measuring
from hwnas.config.problems import config_error, read_yaml

__all__ = ["SearchConfig", "load_config"]

Scalar = str | int | float | bool


class SearchConfig(BaseModel):
    """One search. Unknown keys are refused; the resolved form is written into the run folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: str = Field("sam-vit-t", description="registered name, file or module path of a space")
    device: str | None = Field(None, description="device id, alias, id:mode or path of a YAML file")
    supernet: str | None = Field(None, description="trained supernet file; the space's own if null")
    data: str | None = Field(
        None, description="folder of images and masks; the embedded picture if null"
    )
    objectives: tuple[str, ...] = Field(
        (), description="names or specs of cost models to optimize; the space's own if empty"
    )
    costs: tuple[str, ...] = Field((), description="further cost models, for limits or objectives")
    limits: tuple[str, ...] = Field((), description="'NAME<=VALUE' or 'NAME>=VALUE'")
    limit_on: Literal["pessimistic", "point"] = Field(
        "pessimistic", description="which end of an interval a limit holds against"
    )
    options: dict[str, dict[str, Scalar]] = Field(
        default_factory=dict, description="options of each cost model, by its name"
    )
    freeze: dict[str, Scalar] = Field(
        default_factory=dict, description="genes that keep one value in this search"
    )
    algorithm: Literal["nsga2", "random", "exhaustive"] = "nsga2"
    start: Literal["references", "exact"] = Field(
        "references",
        description="what nsga2 begins with besides random designs: the space's reference designs, "
        "or the exact front as well, where costs are sums",
    )
    population: int = Field(40, ge=4, description="designs a generation")
    max_evaluations: int | None = Field(
        None,
        ge=1,
        description="designs evaluated by nsga2 and random; if null 360 where each runs a network, "
        "else 1,000; exhaustive takes all",
    )
    seed: int = Field(0, ge=0)
    rescore: str | None = Field(
        None, description="cost model that scores the final front again; the space's own if null"
    )
    verify: int = Field(
        0, ge=0, description="measure so many designs of the final front on the device"
    )
    measuring: MeasuringConfig = Field(
        default=make_measuring(), description="how designs are measured for verify"
    )
    executor: Literal["serial", "processes"] = "serial"
    workers: int | None = Field(None, ge=1, description="processes; the number of cores if null")

    @field_validator("objectives", "costs", "limits", mode="after")
    @classmethod
    def _no_duplicates(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return names


def load_config(path: str | Path, **overrides: object) -> SearchConfig:
    """Read a configuration; `overrides` replace its keys.

    Raises:
        ConfigError: listing every problem of the file at once.
    """
    return make_config(str(path), {**read_yaml(path), **overrides})


def make_config(source: str, content: dict[str, object]) -> SearchConfig:
    """Validate `content`; `source` names it in errors."""
    try:
        return SearchConfig.model_validate(content)
    except ValidationError as error:
        raise config_error(source, error, SearchConfig) from error
