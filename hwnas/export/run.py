"""Segment a picture with the networks in this folder; needs numpy, Pillow and onnxruntime alone.

    python run.py PICTURE --box X0 Y0 X1 Y1
    python run.py PICTURE --point X Y [--point X Y ...] [--not X Y ...] --out mask.png

Coordinates are in pixels of the picture; a box may be given several times. The mask is saved as
a picture of 0 and 255. Or from Python:

    segmenter = Segmenter.open("folder")
    embedding = segmenter.embed(image)                      # image (H, W, 3) uint8
    masks, iou = segmenter.masks(embedding, image.shape[:2], boxes=[[x0, y0, x1, y1]])
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Segmenter"]

_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_STD = np.array([58.395, 57.12, 57.375], np.float32)
_BACKGROUND, _FOREGROUND, _FIRST, _LAST, _PADDING = 0, 1, 2, 3, -1
_NETWORKS = ("encoder.onnx", "decoder.onnx")
_SHRINK = 4  # pixels of the input along one of the decoded map


class Segmenter:
    """Image encoder and mask decoder of a folder in ONNX Runtime, for inputs of one size."""

    def __init__(self, folder: str | Path, resolution: int, *, threads: int = 0) -> None:
        self.resolution, folder = resolution, Path(folder)
        self._encoder, self._decoder = (_session(folder / name, threads) for name in _NETWORKS)

    @classmethod
    def open(cls, folder: str | Path, *, threads: int = 0, check: bool = True) -> Segmenter:
        """Open a folder; its files are compared with the hashes of its card first.

        Raises:
            ValueError: a file is missing or is not the one that was exported.
        """
        card = json.loads((Path(folder) / "card.json").read_text(encoding="utf-8"))
        if check:
            _check(Path(folder), {name: card["files"][name]["sha256"] for name in _NETWORKS})
        return cls(folder, int(card["resolution"]), threads=threads)

    def embed(self, image: Any) -> Any:
        """Embed a picture (H, W, 3) uint8: (1, 256, g, g)."""
        return self.embed_input(preprocess(image, self.resolution))

    def embed_input(self, image: Any) -> Any:
        """Embed a normalized square (1, 3, R, R)."""
        return self._encoder.run(None, {"image": image})[0]

    def masks(
        self, embedding: Any, size: tuple[int, int], *, boxes: Sequence[Sequence[float]] = (),
        points: Sequence[Sequence[float]] = (), background: Sequence[Sequence[float]] = (),
    ) -> tuple[Any, Any]:  # fmt: skip
        """Masks (P, H, W) bool and their predicted IoU (P,) of one picture of `size` (H, W).

        Each box is a prompt; all points together are one more, of the foreground but for those
        in `background`.
        """
        prompts = [([box[:2], box[2:]], [_FIRST, _LAST]) for box in boxes]
        if points:
            labels = [_FOREGROUND] * len(points) + [_BACKGROUND] * len(background)
            prompts.append(([*points, *background], labels))
        found = [self.logits(embedding, *coordinates(prompt, size, self.resolution))
                 for prompt in prompts]  # fmt: skip
        masks = [postprocess(logits[0], size, self.resolution) > 0 for logits, _ in found]
        return np.stack(masks), np.concatenate([iou for _, iou in found])

    def logits(self, embedding: Any, points: Any, labels: Any) -> tuple[Any, Any]:
        """Logits (P, R / 4, R / 4) and predicted IoU of prompts in pixels of the input."""
        feed = {"embedding": embedding, "points": points, "labels": labels}
        masks, iou = self._decoder.run(None, feed)
        return masks, iou


def fit_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """Height and width after the long side was scaled to `resolution`."""
    scale = resolution / max(size)
    return max(int(size[0] * scale + 0.5), 1), max(int(size[1] * scale + 0.5), 1)


def preprocess(image: Any, resolution: int) -> Any:
    """Resize a picture (H, W, 3), normalize it and fill it up with zeros: (1, 3, R, R)."""
    height, width = fit_size(image.shape[:2], resolution)
    if (height, width) != image.shape[:2]:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    square = np.zeros((1, 3, resolution, resolution), np.float32)
    normalized = (image.astype(np.float32) - _MEAN) / _STD
    square[0, :, :height, :width] = normalized.transpose(2, 0, 1)
    return square


def coordinates(prompt: Any, size: tuple[int, int], resolution: int) -> tuple[Any, Any]:
    """Points (1, n, 2) in pixels of the input, and their labels (1, n)."""
    scale = resolution / max(size)
    points, labels = np.array(prompt[0], np.float32), np.array(prompt[1], np.int64)
    if labels[0] == _FIRST:
        return points[None] * np.float32(scale), labels[None]
    points = (points + np.float32(0.5)) * np.float32(scale) - np.float32(0.5)
    points, labels = np.vstack([points, np.zeros((1, 2), np.float32)]), np.append(labels, _PADDING)
    return points[None], labels[None]


def postprocess(logits: Any, size: tuple[int, int], resolution: int) -> Any:
    """Logits (R / 4, R / 4) at the picture's `size`: bilinear to R x R, cropped, bilinear."""
    height, width = fit_size(size, resolution)
    rows, columns = _axis(size[0], height, resolution), _axis(size[1], width, resolution)
    return rows @ logits @ columns.T


def _axis(length: int, inside: int, resolution: int) -> Any:
    """The matrix (length, R / 4) of both resizes along one axis."""
    matrix = _linear(resolution // _SHRINK, resolution)[:inside]
    return matrix if inside == length else _linear(inside, length) @ matrix


def _linear(source: int, target: int) -> Any:
    """Linear interpolation of `source` samples at `target` places, corners not aligned."""
    at = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0)
    low = np.minimum(at.astype(int), source - 1)
    high, share = np.minimum(low + 1, source - 1), (at - low).astype(np.float32)
    matrix = np.zeros((target, source), np.float32)
    np.add.at(matrix, (np.arange(target), low), 1 - share)
    np.add.at(matrix, (np.arange(target), high), share)
    return matrix


def _check(folder: Path, hashes: dict[str, str]) -> None:
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing; copy the whole folder again")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise ValueError(
                f"{path} is not the file that was exported: its sha256 is {found[:12]}..., "
                f"card.json says {expected[:12]}...; copy it again, or export the folder again"
            )


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # exp() in a softmax leaves numbers so small that a CPU takes many cycles for each
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Segment a picture with a box or points.")
    parser.add_argument("picture", type=Path)
    box = ("X0", "Y0", "X1", "Y1")
    parser.add_argument("--box", nargs=4, type=float, metavar=box, action="append", default=[])
    for name, what in (("point", "in the object"), ("not", "outside of it")):
        parser.add_argument(
            f"--{name}", nargs=2, type=float, metavar=("X", "Y"), action="append", default=[],
            help=f"a point {what}; repeatable",
        )  # fmt: skip
    parser.add_argument("--out", type=Path, help="PNG to write; default: PICTURE-mask.png")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are cores")
    found = parser.parse_args(arguments)
    if not found.box and not found.point:
        parser.error("give a --box or a --point")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0, or 2 with a message."""
    given = _arguments(arguments)
    try:
        folder = Path(__file__).resolve().parent
        segmenter = Segmenter.open(folder, threads=given.threads)
        image = np.asarray(Image.open(given.picture).convert("RGB"))
    except ImportError as error:
        sys.stderr.write(f"{error}; run.py needs: pip install numpy pillow onnxruntime\n")
        return 2
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    masks, iou = segmenter.masks(
        segmenter.embed(image), image.shape[:2], boxes=given.box, points=given.point,
        background=getattr(given, "not"),
    )  # fmt: skip
    out = given.out or Path(f"{given.picture.stem}-mask.png")
    Image.fromarray((masks.any(axis=0) * 255).astype(np.uint8)).save(out)
    for mask, predicted in zip(masks, iou, strict=True):
        sys.stdout.write(f"{int(mask.sum())} pixels, predicted IoU {predicted:.2f}\n")
    sys.stdout.write(f"wrote {out}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
