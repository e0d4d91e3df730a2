"""Names of options, and what they keep of the teacher."""

import pytest

from hwnas.blocks import all_options, kept_blocks, option_of, teacher_option
from hwnas.blocks.options import heads_of
from hwnas.errors import SpaceError
from hwnas.workload.sam_geometry import GEOMETRIES

TINY_SAM = GEOMETRIES["sam-vit-t"]


def test_names_are_read_back():
    options = all_options(TINY_SAM)
    assert len(options) == 3 * 3 * 3 * 4
    assert [option_of(option.name) for option in options] == list(options)
    assert options[-1] == teacher_option(TINY_SAM)


@pytest.mark.parametrize("name", ["vit-d3-r4", "vit-d3-r4-w9a9", "pool-d1-r2-w8a8", "", "vit"])
def test_other_names_are_refused(name):
    with pytest.raises(SpaceError, match="is no option of a slot"):
        option_of(name)


def test_wider_options_have_more_heads():
    heads = [heads_of(TINY_SAM, option_of(f"vit-d1-r{ratio}-fp16")) for ratio in (2, 3, 4)]
    assert heads == [1, 2, 3]
    heads = [
        heads_of(GEOMETRIES["sam-vit-b"], option_of(f"vit-d1-r{r}-fp16")) for r in (2, 3, 4)
    ]  # fmt: skip
    assert heads == sorted(heads)
    assert heads[-1] == GEOMETRIES["sam-vit-b"].heads


def test_what_is_dropped_first_goes_first():
    assert kept_blocks((8, 6, 7), 3) == (6, 7, 8)
    assert kept_blocks((8, 6, 7), 2) == (6, 8)
    with pytest.raises(SpaceError, match="depth 4"):
        kept_blocks((8, 6, 7), 4)
