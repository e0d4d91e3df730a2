"""The same images and base as for fine-tunings."""

from __future__ import annotations

from tests.workflows.finetune.conftest import base, data, patch

__all__ = ["base", "data", "patch"]
