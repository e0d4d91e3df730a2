"""How a device is reached, what runs on it, and where its measurements are kept."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas.config.problems import config_error
from hwnas.errors import ConfigError

__all__ = ["MeasuringConfig", "make_measuring"]

_ADDRESS = re.compile(r"(?P<host>.+):(?P<port>\d{1,5})")


class MeasuringConfig(BaseModel):
    """One way to measure. Without `rpc` and `tracker` the device is this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: Literal["tvm", "onnxruntime", "torch"] = Field(
        "tvm", description="what runs the network; every result names it"
    )
    rpc: str | None = Field(None, description="HOST:PORT of a TVM RPC server on the device")
    tracker: str | None = Field(None, description="HOST:PORT of a TVM tracker that lends devices")
    key: str | None = Field(None, description="what the device is called at the tracker")
    store: str | None = Field(
        None, description="SQLite file of measurements; measurements/DEVICE.sqlite if null"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        for name, address in (("rpc", self.rpc), ("tracker", self.tracker)):
            if address is not None and not _is_address(address):
                problems.append(f"{name} {address!r}: expected HOST:PORT, as 192.168.1.7:9090")
        if self.rpc and self.tracker:
            problems.append("rpc and tracker: give one of them")
        if self.tracker and not self.key:
            problems.append("tracker: it lends devices by name; add --key NAME")
        if self.key and not self.tracker:
            problems.append("key: it belongs to --tracker HOST:PORT")
        if self.remote and self.runner != "tvm":
            problems.append(f"runner {self.runner}: over rpc and tracker only tvm runs")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def remote(self) -> bool:
        """Whether the device is reached over the network."""
        return bool(self.rpc or self.tracker)

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the server or the tracker; None for this machine."""
        text = self.rpc or self.tracker
        if text is None:
            return None
        host, _, port = text.rpartition(":")
        return host, int(port)


def make_measuring(source: str = "options", **content: object) -> MeasuringConfig:
    """Validate options, those that are None left out; `source` names them in errors.

    Raises:
        ConfigError: listing every problem.
    """
    given = {key: value for key, value in content.items() if value is not None}
    try:
        return MeasuringConfig.model_validate(given)
    except ValidationError as error:
        found = str(config_error(source, error, MeasuringConfig))
        raise ConfigError(found.replace("(whole file)  Value error, ", "")) from error


def _is_address(text: str) -> bool:
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found["port"]) < 65536
