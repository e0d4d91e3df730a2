"""What is read from YAML: strict models, and errors that list every problem at once."""

from __future__ import annotations

from hwnas.config.problems import config_error, read_yaml
from hwnas.config.search import SearchConfig, load_config, make_config

__all__ = ["SearchConfig", "config_error", "load_config", "make_config", "read_yaml"]
