"""Networks trained from scratch, one at a time: qualities that proxies can be judged by."""

from hwnas.workflows.study_scratch.options import ScratchOptions
from hwnas.workflows.study_scratch.study import ScratchStudy, study_scratch

__all__ = ["ScratchOptions", "ScratchStudy", "study_scratch"]
