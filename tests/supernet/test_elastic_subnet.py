"""`activate(arch)` equals `subnet(arch)`, which lives on without the supernet."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workload.sam_geometry import GEOMETRIES
from search_spaces.sam import sam_vit_b, sam_vit_t
from tests.supernet.elastic_models import calibrated, mixed_plan, smooth_images


def _check(net: SamSupernet, archs: object, images: dict[int, torch.Tensor]) -> None:
    for arch in archs:
        image = images[net.resolution(arch)]
        subnet = net.subnet(arch)
        net.activate(arch)
        with torch.no_grad():
            found = net(image)
        assert torch.equal(found, subnet(image)), arch
        assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    "resolutions", [(128, 256), pytest.param((384, 512), marks=pytest.mark.slow)]
)
def test_activate_equals_subnet_on_fifty_archs(resolutions: tuple[int, ...]) -> None:
    geometry = GEOMETRIES["sam-vit-t"]
    net = calibrated(geometry)
    images = {image.shape[-1]: image[None] for image in smooth_images(geometry)}
    space = sam_vit_t().restrict({"resolution": resolutions})
    _check(net, space.sample(np.random.default_rng(0), 50), images)


@pytest.mark.slow
def test_activate_equals_subnet_on_three_archs_of_sam_b() -> None:
    geometry = GEOMETRIES["sam-vit-b"]
    net = calibrated(geometry)
    space = sam_vit_b().freeze({"resolution": 448})
    image = next(i for i in smooth_images(geometry) if i.shape[-1] == 448)
    _check(net, space.sample(np.random.default_rng(0), 3), {448: image[None]})


def test_subnet_does_not_follow_the_supernet() -> None:
    net, image = calibrated(), smooth_images()[1][None]
    plan = mixed_plan()
    subnet = net.subnet(plan)
    before = subnet(image)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    net.encoder.forget()
    assert torch.equal(subnet(image), before)
    assert not torch.equal(net.embed(image, plan), before)


def test_subnet_state_is_saved_and_loaded() -> None:
    net, image = calibrated(), smooth_images()[1][None]
    first, second = net.subnet(mixed_plan()), net.subnet(mixed_plan())
    expected = first(image)
    for buffer in second.buffers():
        buffer.zero_()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(image), expected)


def test_embed_leaves_the_active_subnet_alone() -> None:
    net, image = calibrated(), smooth_images()[1][None]
    net.activate(mixed_plan())
    with torch.no_grad():
        active = net(image)
        net.teacher(image)
        assert torch.equal(net(image), active)
