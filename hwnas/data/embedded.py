"""The annotated picture that ships with the package."""

from __future__ import annotations

from pathlib import Path

from hwnas.data.folder import LabeledImage, Pair, read_pair

__all__ = ["EMBEDDED_NAME", "EXCLUDED_FROM_TRAINING", "embedded_image"]

EMBEDDED_NAME = "nuclei"
# The picture is a part of this image of the nuclei data (same annotations, noise added), so no
# shipped model may train on it. No other image of that data comes near: `duplicates.similarity`
# is 1.00 for this one and at most 0.75 for the 663 others.
EXCLUDED_FROM_TRAINING = ("4dbbb275960ab9e4",)

_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "nuclei"


def embedded_image() -> LabeledImage:
    """A fluorescence micrograph of 512 x 512 pixels with 125 annotated nuclei."""
    return read_pair(
        Pair(
            EMBEDDED_NAME,
            _FOLDER / "image.png",
            _FOLDER / "instances.png",
            marks="instances",
            kind="fluorescence",
        )
    )
