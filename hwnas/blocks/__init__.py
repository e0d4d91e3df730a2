"""Block losses: candidates for parts of an encoder, distilled one by one, and what they lose.

After DONNA (Moons et al., ICCV 2021) and DONNAv2 (ICCV workshops 2023). The encoder is cut into
slots; every option of a slot is a network of its own that is trained to repeat the teacher's
features. What it fails to repeat, the noise-to-signal ratio, stands for the quality that it costs.

Here are the parts that need no weights; modules with weights are imported by name.
"""

from hwnas.blocks.filtering import Dropped, Filtered, filter_blocks
from hwnas.blocks.library import BlockRecord, Library, read_library
from hwnas.blocks.options import (
    BITS,
    KINDS,
    BlockOption,
    all_options,
    kept_blocks,
    option_of,
    slot_gene,
    teacher_option,
)

__all__ = [
    "BITS",
    "KINDS",
    "BlockOption",
    "BlockRecord",
    "Dropped",
    "Filtered",
    "Library",
    "all_options",
    "filter_blocks",
    "kept_blocks",
    "option_of",
    "read_library",
    "slot_gene",
    "teacher_option",
]
