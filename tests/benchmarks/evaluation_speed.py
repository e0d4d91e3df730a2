"""How much faster `Evaluator` is than decoding and scoring whole masks, image by image.

    OMP_NUM_THREADS=1 python tests/benchmarks/evaluation_speed.py [DATA]

Processor seconds of one thread, the best of three, both ways in turn. DATA is a folder of annotated
images (its val split); the embedded picture by default. Not a test.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from hwnas.data.scores import iou_of_masks
from hwnas.data.transforms import postprocess, preprocess
from hwnas.space import load_space
from hwnas.supernet.decoder import decode
from hwnas.supernet.evaluation import Evaluator
from hwnas.supernet.prompting import embed_prompts
from hwnas.supernet.sam_supernet import build
from hwnas.workflows.evaluate.data import open_data

PROMPTS = 16


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@torch.no_grad()
def plain(net: Any, images: Any, arch: Any, truths: Any) -> float:
    """The way of the first release: one image at a time, full-size masks."""
    means = []
    for image, truth in zip(images, truths, strict=True):
        resolution = net.resolution(arch)
        embedding = net.embed(preprocess(image.image, resolution)[None], arch)
        boxes = torch.from_numpy(truth.prompts.boxes) * (resolution / max(image.size))
        none = torch.empty(1, 0, 1, 2)
        prompts = embed_prompts(net.sam, boxes[None], none, resolution)
        dense = prompts.dense(net.sam, embedding.shape[-1])
        logits = decode(net.sam, embedding, prompts.sparse, dense=dense)[0][0, :, 0]
        masks = postprocess(logits, image.size) > 0
        objects = image.instances == truth.prompts.ids[:, None, None]
        means.append(iou_of_masks(masks.numpy(), objects).mean())
    return float(np.mean(means))


def main() -> None:
    net, space = build("sam-vit-t"), load_space("sam-vit-t")
    data = open_data(sys.argv[1] if len(sys.argv) > 1 else None, max_images=8)
    evaluator = Evaluator.of(net.sam, data.images, max_instances=PROMPTS)
    print(f"{len(data.images)} images, at most {PROMPTS} boxes each")  # noqa: T201
    for resolution in (128, 256, 384, 512):
        arch = space.arch({**space.largest().genes, "resolution": resolution})
        fast = partial(evaluator.score, partial(net.embed, arch=arch), resolution)
        slow = partial(plain, net, data.images, arch, evaluator.truths)
        value = float(np.mean([s.iou.mean() for s in fast()["box"]]))
        assert abs(value - slow()) < 1e-4
        times = [(seconds(slow), seconds(fast)) for _ in range(3)]
        before, after = (min(column) for column in zip(*times, strict=True))
        line = f"{resolution} px: {before:.2f} s before, {after:.2f} s after, {before / after:.1f}x"
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
