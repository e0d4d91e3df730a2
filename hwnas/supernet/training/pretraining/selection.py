"""Start a small encoder from the weights of a wider one of the same depth.

Source: Xu et al., "Initializing Models with Larger Ones" (2023), uniform element selection. We
differ in that whole heads are selected, and in that the neck is selected too.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["select_weights"]


def select_weights(small: Any, large: Any) -> None:
    """Copy evenly spaced channels and heads of encoder `large` into encoder `small`, in place.

    Both have the same depth, patch and head width; `small` keeps its own relative tables (they
    differ in length) and gets the wider one's position table resized by selection of channels.
    """
    own, source = small.state_dict(), large.state_dict()
    head_dim = small.blocks[0].attn.rel_pos_h.shape[1]
    narrow, wide = (e.blocks[0].attn.num_heads for e in (small, large))
    heads = torch.arange(narrow) * wide // narrow
    inner = (heads[:, None] * head_dim + torch.arange(head_dim)).flatten()
    width_in = wide * head_dim
    qkv = torch.cat([inner + part * width_in for part in range(3)])
    for key, value in own.items():
        if "rel_pos" in key:
            continue
        taken = source[key]
        for axis in range(value.ndim):
            if value.shape[axis] == taken.shape[axis]:
                continue
            if axis == 0 and "attn.qkv" in key:
                rows = qkv
            elif axis == 1 and "attn.proj" in key:
                rows = inner
            else:
                n, m = value.shape[axis], taken.shape[axis]
                rows = torch.arange(n) * m // n
            taken = taken.index_select(axis, rows)
        own[key] = taken.clone()
    small.load_state_dict(own)
