"""Features of a frozen encoder on disk, so that a picture is encoded once."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file

from hwnas.records.files import explained
from hwnas.supernet.checkpoint import save_weights
from hwnas.supernet.side.features import Backbone, Features
from hwnas.supernet.side.network import SideNetwork

__all__ = ["FeatureCache"]

_LOG = logging.getLogger(__name__)
_LAST = "last"


class FeatureCache:
    """Images (B, 3, R, R) to features, from `folder` where they are, else by the encoder.

    One safetensors file an image: FOLDER/MODEL/IMAGE, where MODEL is a hash of the encoder's
    weights, its plan, the tapped blocks and the type of the tensors, IMAGE one of the normalized
    pixels. Other weights or other pixels are other files, so nothing is ever stale; a file is
    whole or absent, and one that cannot be read is made again. Images that never come twice
    (random crops) fill the disk to no use: train on fixed views (`FixedViews`).

    An image takes (taps + 1) g^2 C numbers, without the 1 where the last block is tapped and the
    side network adds before the neck. `dtype` float16 halves the disk and rounds the features;
    float32 keeps them to the last bit.
    """

    def __init__(
        self, folder: str | Path, backbone: Backbone, side: SideNetwork,
        *, dtype: torch.dtype = torch.float16,
    ) -> None:  # fmt: skip
        """Hash the weights of `backbone`, which must not change from now on."""
        self._backbone, self._blocks, self._embeds = backbone, side.blocks, side.embeds
        self._dtype = dtype
        identity = f"{backbone.key} {self._blocks} {self._embeds} {dtype}"
        self.folder = Path(folder) / hashlib.sha256(identity.encode()).hexdigest()[:24]
        self.encoded = 0
        """Images that the encoder was run on, by this object."""

    def __call__(self, images: torch.Tensor) -> Features:
        """The features of images, on their device and in float32."""
        paths = [self._path(image) for image in images]
        found = [self._load(path, images.device) for path in paths]
        missing = [row for row, features in enumerate(found) if features is None]
        if missing:
            made = self._encode(images[missing])
            for row, features in zip(missing, made, strict=True):
                self._save(paths[row], features)
                found[row] = features
        rows = [features for features in found if features is not None]
        taps = zip(*(features.taps for features in rows), strict=True)
        return Features(
            tuple(torch.stack(tap) for tap in taps),
            torch.stack([features.last for features in rows]),
        )

    def _encode(self, images: torch.Tensor) -> list[Features]:
        """Features of each image, rounded as the file will hold them."""
        self.encoded += len(images)
        read = self._backbone.read(images, self._blocks, embed=self._embeds)
        taps = [tap.to(self._dtype).float() for tap in read.taps]
        same = bool(read.taps) and read.last is read.taps[-1]
        last = taps[-1] if same else read.last.to(self._dtype).float()
        return [
            Features(own, own[-1] if same else last[row])
            for row, own in enumerate(zip(*taps, strict=True))
        ]

    def _path(self, image: torch.Tensor) -> Path:
        pixels = image.detach().to("cpu", torch.float32).contiguous()
        digest = hashlib.sha256(f"{tuple(pixels.shape)}".encode())
        digest.update(pixels.numpy().tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"

    def _load(self, path: Path, device: torch.device) -> Features | None:
        if not path.is_file():
            return None
        try:
            tensors = {k: v.to(device).float() for k, v in load_file(path).items()}
            taps = tuple(tensors[f"tap.{block}"] for block in self._blocks)
        except (safetensors.SafetensorError, OSError, KeyError) as error:
            _LOG.warning("%s: cannot be read (%s); the image is encoded again", path, error)
            return None
        return Features(taps, tensors.get(_LAST, taps[-1]))

    def _save(self, path: Path, features: Features) -> None:
        named = zip(self._blocks, features.taps, strict=True)
        tensors = {f"tap.{block}": tap.to("cpu", self._dtype) for block, tap in named}
        if features.last is not features.taps[-1]:
            tensors[_LAST] = features.last.to("cpu", self._dtype)
        draft = path.with_name(f".{path.stem}.{os.getpid()}.tmp")  # others may write it as well
        with explained("write", path):
            # a tap of the patch embedding of several images is a slice of one tensor
            save_weights(draft, {k: v.clone() for k, v in tensors.items()})
            draft.replace(path)
