"""The noise-to-signal ratio against closed forms."""

import pytest
import torch

from hwnas.blocks.noise import EPS, ChannelScale, errors_of_images
from hwnas.errors import DataError


@pytest.fixture(scope="module")
def features():
    return torch.randn(6, 4, 4, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 6)


@pytest.fixture(scope="module")
def everywhere():
    return torch.ones(6, 4, 4, dtype=torch.bool)


def test_the_teacher_has_none_and_its_mean_has_one(features, everywhere):
    scale = ChannelScale.of(features, everywhere, name="t")
    assert not errors_of_images(features, features, everywhere, scale).any()
    mean = features.mean(dim=(0, 1, 2)).expand_as(features)
    variance = features.double().var(dim=(0, 1, 2), unbiased=False)
    expected = float((variance / (variance + EPS * variance.mean())).mean())
    found = errors_of_images(mean, features, everywhere, scale).mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(found) == pytest.approx(1.0, abs=1e-2)


def test_a_loop_gives_the_same(features, everywhere):
    student = features + torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
    scale = ChannelScale.of(features, everywhere, name="t")
    variance = [float(features[..., c].double().var(unbiased=False)) for c in range(5)]
    small = EPS * sum(variance) / 5
    for image, found in enumerate(errors_of_images(student, features, everywhere, scale)):
        terms = [
            float((student[image, ..., c] - features[image, ..., c]).square().mean())
            / (variance[c] + small)
            for c in range(5)
        ]
        assert float(found) == pytest.approx(sum(terms) / 5, rel=1e-5)


def test_a_value_depends_on_no_batch(features, everywhere):
    scale = ChannelScale.of(features, everywhere, name="t")
    student = features * 0.9
    whole = errors_of_images(student, features, everywhere, scale)
    parts = [
        errors_of_images(student[i : i + 1], features[i : i + 1], everywhere[:1], scale)
        for i in range(6)
    ]
    assert torch.allclose(whole, torch.cat(parts), rtol=1e-5)


def test_padding_counts_nowhere(features, everywhere):
    valid = everywhere.clone()
    valid[:, 3:] = False
    spoiled = features.clone()
    spoiled[:, 3:] = 1e4
    cut = ChannelScale.of(features[:, :3], everywhere[:, :3], name="t")
    assert torch.allclose(ChannelScale.of(spoiled, valid, name="t").weights, cut.weights)
    found = errors_of_images(spoiled, features, valid, cut)
    assert not found.any()


def test_dead_channels_are_counted_and_stay_finite(features, everywhere):
    dead = features.clone()
    dead[..., 2] = 7.0
    scale = ChannelScale.of(dead, everywhere, name="t")
    assert scale.dead == 1
    assert torch.isfinite(errors_of_images(dead + 0.1, dead, everywhere, scale)).all()


def test_features_without_variance_are_refused(everywhere):
    with pytest.raises(DataError, match="slot 3: the teacher's features are the same everywhere"):
        ChannelScale.of(torch.full((6, 4, 4, 5), 2.0), everywhere, name="slot 3")
    with pytest.raises(DataError, match="not finite"):
        ChannelScale.of(torch.full((6, 4, 4, 5), torch.inf), everywhere, name="slot 3")
