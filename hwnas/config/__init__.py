"""What is read from YAML: strict models, and errors that list every problem at once."""

from __future__ import annotations

from hwnas.config.measuring import MeasuringConfig, make_measuring
from hwnas.config.problems import config_error, read_yaml
from hwnas.config.search import SearchConfig, load_config, make_config

__all__ = [
    "MeasuringConfig", "SearchConfig", "config_error", "load_config", "make_config",
    "make_measuring", "read_yaml",
]  # fmt: skip
