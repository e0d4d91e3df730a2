"""Libraries of blocks: build one, filter it for a device, score networks by it."""

from hwnas.workflows.blocks.build import BlocksBuilt, build_blocks
from hwnas.workflows.blocks.filter import DeviceFilter, filter_library
from hwnas.workflows.blocks.finetune import FineTuned, finetune_network
from hwnas.workflows.blocks.score import BlockScores, score_library

__all__ = [
    "BlockScores",
    "BlocksBuilt",
    "DeviceFilter",
    "FineTuned",
    "build_blocks",
    "filter_library",
    "finetune_network",
    "score_library",
]
