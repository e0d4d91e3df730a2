"""Which projections' gradients quantization disturbs, and what freezing them is worth."""

from hwnas.workflows.study_propagation.options import PropagationOptions
from hwnas.workflows.study_propagation.study import PropagationStudy, study_propagation

__all__ = ["PropagationOptions", "PropagationStudy", "study_propagation"]
