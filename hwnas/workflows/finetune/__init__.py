"""Fine-tuning a model with adapters, and opening what came of it."""

from __future__ import annotations

from hwnas.supernet.training.finetuning.opening import Finetuned, open_finetuned
from hwnas.workflows.finetune.train import finetune

__all__ = ["Finetuned", "finetune", "open_finetuned"]
