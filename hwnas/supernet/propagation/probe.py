"""Signals of one model on equal batches, in floating point and under quantizers of some bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hwnas.adapters import LayerQuantizer
from hwnas.config.finetuning import FinetuneConfig, KindConfig, QuantizerConfig
from hwnas.supernet.propagation.comparing import weight_sqnr
from hwnas.supernet.propagation.projections import projections_of
from hwnas.supernet.propagation.signals import Signals, take_signals
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.objective import Objective, Teacher
from hwnas.supernet.training.finetuning.quantizing import sampled_inputs

__all__ = ["PropagationProbe", "probing_student"]

Quantizers = Mapping[str, LayerQuantizer]
TASK, KD_QAT = "task", "kd_qat"


def probing_student(sam: Any, config: FinetuneConfig) -> AttachedStudent:
    """A student without adapters whose layers can carry quantizers; changes `sam` in place."""
    own = {"adapter": KindConfig(kind="full", targets=config.adapter.targets),
           "quantizer": QuantizerConfig()}  # fmt: skip
    return AttachedStudent(sam, config.model_copy(update=own), seed=0)


class PropagationProbe:
    """Differentiates the losses of a recipe with respect to weights and outputs of its layers.

    `task` is the recipe's loss against the annotation; `kd_qat` adds the distances from the
    teacher and is there with a teacher only. The student is left in eval mode and trains nothing
    but, for as long as a batch takes, the weights of its layers.
    """

    def __init__(
        self, student: AttachedStudent, config: FinetuneConfig, resolution: int, *,
        teacher: Teacher | None = None,
    ) -> None:  # fmt: skip
        """Raise ConfigError for layers that are none of a SAM block's four."""
        student.requires_grad_(False).eval()
        self.student = student
        self.projections = projections_of(student.layers)
        self.objective = Objective(student, config, resolution, teacher=teacher)
        self._task, self._distils = config.task, teacher is not None

    def calibrate(
        self, images: Sequence[torch.Tensor], bits: Sequence[tuple[int, int]], *, seed: int
    ) -> dict[tuple[int, int], dict[str, LayerQuantizer]]:
        """Quantizers for each pair of bits of weights and inputs, as a fine-tuning makes them.

        `images` are normalized inputs (3, R, R). Grids have the least squared error, of inputs
        over what the model in floating point sees.
        """
        self.use(None)
        values = sampled_inputs(self.student, images, seed=seed)
        return {
            (w_bits, a_bits): {
                path: LayerQuantizer.of(
                    layer.weight.detach().cpu(), values[path], w_bits, a_bits
                ).to(layer.weight.device)
                for path, layer in self.student.layers.items()
            }
            for w_bits, a_bits in bits
        }  # fmt: skip

    def use(self, quantizers: Quantizers | None) -> None:
        """Run under these quantizers from now on; None is floating point."""
        for path, layer in self.student.layers.items():
            layer.quantizer = None if quantizers is None else quantizers[path]

    def signals(self, batch: Batch) -> Signals:
        """The signals of one batch, as the model is now."""
        weights = [layer.weight for layer in self.student.layers.values()]
        needed = [weight.requires_grad for weight in weights]
        try:
            for weight in weights:
                weight.requires_grad_(True)
            return take_signals(self.student.layers, lambda: self._losses(batch))
        finally:
            for weight, before in zip(weights, needed, strict=True):
                weight.requires_grad_(before)

    def weight_noise(self) -> list[float | None]:
        """Signal to quantization noise of each projection's weight as it is now, in dB."""
        layers = self.student.layers
        return [weight_sqnr(layers[one.path], one.rows) for one in self.projections]

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        found = self.objective.losses(batch)
        losses = {TASK: self._task * found["task_loss"]}
        return losses | {KD_QAT: found["loss"]} if self._distils else losses
