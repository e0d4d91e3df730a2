"""Which device torch computes on."""

from __future__ import annotations

import torch

from hwnas.errors import ConfigError

__all__ = ["check_torch_device"]


def check_torch_device(name: str) -> None:
    """Raise ConfigError unless `name` is cpu, or cuda where torch sees a GPU."""
    if name == "cpu" or (name == "cuda" and torch.cuda.is_available()):
        return
    seen = "cpu or cuda" if torch.cuda.is_available() else "cpu; torch sees no GPU here"
    raise ConfigError(f"--torch-device {name}: expected {seen}")
