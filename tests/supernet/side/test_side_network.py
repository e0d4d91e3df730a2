"""Side networks on a stock SAM: fresh, trained, at other resolutions, on clips."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.adapters import NotFoldable
from hwnas.errors import ConfigError
from hwnas.supernet.sam_model import encode
from hwnas.supernet.side.config import SideConfig
from hwnas.supernet.side.encoder import SideEncoder
from hwnas.supernet.side.features import SamBackbone
from hwnas.supernet.side.network import SideNetwork, side_network
from tests.supernet.side.side_models import GEOMETRY, VARIANTS, pictures, shake, tiny_sam


@pytest.fixture(scope="module")
def sam() -> Any:
    return tiny_sam()


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize(("method", "options"), VARIANTS)
@torch.no_grad()
def test_a_fresh_side_network_changes_nothing(
    sam: Any, method: str, options: dict[str, Any], side: int
) -> None:
    images = pictures(side=side)
    network = side_network(GEOMETRY, method, **options)
    encoder = SideEncoder(SamBackbone(sam), network)
    before = encode(sam, images)
    assert torch.equal(encoder(images), before)
    shake(network)
    assert (encoder(images) - before).abs().max() > 1e-3


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_all_of_it_learns_within_two_steps(sam: Any, method: str, options: dict[str, Any]) -> None:
    network = side_network(GEOMETRY, method, **options)
    encoder = SideEncoder(SamBackbone(sam), network)
    frames = network.config.frames or 1
    images = pictures(frames)
    target = encode(sam, images).detach().roll(1, dims=1)
    adam = torch.optim.AdamW(network.parameters(), lr=1e-2)
    before = {k: v.clone() for k, v in sam.state_dict().items()}
    losses = []
    for _ in range(3):
        adam.zero_grad()
        loss = (encoder(images, frames=frames) - target).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        adam.step()
    dead = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert losses[-1] < losses[0]
    assert all(torch.equal(v, before[k]) for k, v in sam.state_dict().items())
    assert all(p.grad is None for p in sam.image_encoder.parameters())


@torch.no_grad()
def test_a_still_clip_is_its_image_where_time_is_not_mixed(sam: Any) -> None:
    network = shake(side_network(GEOMETRY, "losa", frames=4))
    encoder = SideEncoder(SamBackbone(sam), network)
    image = pictures(1)
    clip = image.expand(4, -1, -1, -1)
    alone = encoder(image)
    moved = encoder(clip, frames=4)
    assert (moved - alone).abs().max() > 1e-3  # the time mixers are at work
    for cell in network.cells:
        time: Any = cell.time
        time.up.zero_()
        time.up_bias.zero_()
    torch.testing.assert_close(
        encoder(clip, frames=4), alone.expand(4, -1, -1, -1), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_frames_of_a_clip_see_each_other_only(sam: Any) -> None:
    network = shake(side_network(GEOMETRY, "losa", frames=3))
    encoder = SideEncoder(SamBackbone(sam), network)
    images = pictures(6)
    before = encoder(images, frames=3)
    images[1] = images[1].roll(7, dims=-1)  # of the first clip
    changed = (encoder(images, frames=3) - before).abs().amax((1, 2, 3))
    assert (changed[:3] > 1e-4).all()
    assert not changed[3:].any()
    torch.testing.assert_close(encoder(images[3:5], frames=2)[0].shape, before[0].shape)


@torch.no_grad()
def test_axis_factors_keep_a_constant_map_when_the_grid_changes() -> None:
    network = shake(side_network(GEOMETRY, "losa"))
    mix: Any = network.cells[0].height  # type: ignore[union-attr]
    mix.up_bias.fill_(0.5)
    mix.down.copy_(torch.linspace(-1, 3, 8).expand_as(mix.down))  # smooth, of mean 1
    mix.up.copy_(mix.up[:1].expand_as(mix.up))  # the same at each place
    large, small = (mix(torch.ones(1, g, g, 5), 1) for g in (8, 6))
    assert large.shape == (1, 8, 8, 5)
    torch.testing.assert_close(small, large[:, :6, :6])


@torch.no_grad()
def test_maps_turned_by_ninety_degrees_swap_height_and_width() -> None:
    mix: Any = shake(side_network(GEOMETRY, "losa")).cells[0].height  # type: ignore[union-attr]
    x = torch.randn(2, 8, 8, 5)
    torch.testing.assert_close(mix(x, 2), mix(x.transpose(1, 2), 1).transpose(1, 2))


def test_taps_by_name() -> None:
    chosen = {taps: SideConfig(taps=taps).blocks(GEOMETRY) for taps in ("all", "global", "last:2")}
    assert chosen == {"all": (0, 1, 2), "global": (2,), "last:2": (1, 2)}
    assert side_network(GEOMETRY, "lst", taps=[0, 2]).blocks == (-1, 0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": "every"}, "expected all, global"),
        ({"taps": "last:9"}, "expected all, global"),
        ({"taps": (2, 1)}, "that ascends"),
        ({"taps": (1, 3)}, "outside of the 3 blocks"),
        ({"rank": 0}, "rank 0 must be"),
        ({"inject": "in"}, "inject 'in' is none of before, after"),
        ({"cell": "lst_block", "frames": 2}, "only low_rank_mixer has a time axis"),
        ({"cell": "lst_block", "reduction": 7}, "reduction 7 does not divide the 48 channels"),
        ({"ranks": 3}, "ranks"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        side_network(GEOMETRY, "losa", **options)


def test_methods_and_clips_are_checked(sam: Any) -> None:
    with pytest.raises(ConfigError, match="losa, lst, res_bypass"):
        side_network(GEOMETRY, "ladder")
    encoder = SideEncoder(SamBackbone(sam), side_network(GEOMETRY, "losa"))
    with pytest.raises(ConfigError, match="no time axis, make one with frames=2"):
        encoder(pictures(2), frames=2)
    features = SamBackbone(sam).read(pictures(1), (1,), embed=False)
    with pytest.raises(ConfigError, match="reads blocks 0, 1, 2"):
        encoder.finish(features)


def test_nothing_of_it_can_be_merged(sam: Any) -> None:
    network = side_network(GEOMETRY, "losa")
    with pytest.raises(NotFoldable, match="run it beside the encoder"):
        network.fold()
    with pytest.raises(NotFoldable):
        SideEncoder(SamBackbone(sam), network).merge()


def test_configs_as_json() -> None:
    config = SideConfig(taps=(0, 2), inject="after", film=True)
    assert SideConfig.of(config.to_dict()) == config
    assert SideConfig.of({}) == SideConfig()
    fresh = [
        SideNetwork(GEOMETRY, config, rng=torch.Generator().manual_seed(s)).state_dict()
        for s in (3, 3, 4)
    ]
    assert all(torch.equal(v, fresh[1][k]) for k, v in fresh[0].items())
    assert any(not torch.equal(v, fresh[2][k]) for k, v in fresh[0].items())
