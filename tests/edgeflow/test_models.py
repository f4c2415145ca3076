"""One contract for every flow: inverse, Jacobian, start, map and fold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeflow.models import build, preset
from edgeflow.models.glow import Glow, GlowSpec
from edgeflow.models.linear import LinearFlow, LinearSpec
from edgeflow.models.maf import MAF, MAFSpec
from edgeflow.models.model import Model
from edgeflow.models.spec import ModelSpec
from edgeflow.models.transforms import (
    ActNorm,
    AdditiveAutoregression,
    AdditiveCoupling,
    InvertibleConv1x1,
    Squeeze,
    Transform,
)
from edgeflow_runtime.errors import ConfigError

SPECS = [
    GlowSpec(frames=8, bands=16, blocks=3, steps=2, hidden=8),
    GlowSpec(frames=4, bands=8, blocks=1, steps=2, hidden=8),
    MAFSpec(frames=2, bands=8, blocks=3, hidden=24),
    MAFSpec(frames=4, bands=4, blocks=1, hidden=5),
    LinearSpec(frames=3, bands=4),
    MAFSpec(frames=2, bands=8, blocks=2, hidden=8, masks="staggered", linear=True),
]
FRESH = [spec for spec in SPECS if not spec.starts_fitted]

TRANSFORMS = {
    "actnorm": (lambda: ActNorm(4, 2), (4, 2, 6)),
    "conv1x1": (lambda: InvertibleConv1x1(4), (4, 2, 6)),
    "coupling": (lambda: AdditiveCoupling(4, 6, 8), (4, 2, 6)),
    "squeeze": (Squeeze, (2, 4, 6)),
    "made": (lambda: AdditiveAutoregression(10, 16, reverse=False), (10,)),
    "made reversed": (lambda: AdditiveAutoregression(10, 16, reverse=True), (10,)),
}


def stir(module: nn.Module) -> nn.Module:
    """Move every parameter off its start, so that nothing is the identity by chance."""
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module


@pytest.fixture(params=SPECS, ids=str)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def flow(spec: ModelSpec) -> Model:
    flow = stir(build(spec))
    flow.initialize(torch.randn(32, spec.frames, spec.bands))
    return flow


@pytest.fixture
def x(spec: ModelSpec) -> torch.Tensor:
    return torch.randn(5, spec.frames, spec.bands)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transform_inverts_and_knows_its_determinant(name: str):
    torch.manual_seed(0)
    make, shape = TRANSFORMS[name]
    transform: Transform = stir(make()).double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    z, log_det = transform(x)
    torch.testing.assert_close(transform.inverse(z), x, rtol=0, atol=1e-10)
    jacobian = torch.autograd.functional.jacobian(lambda v: transform(v[None])[0][0], x[0])
    expected = torch.linalg.slogdet(jacobian.reshape(x[0].numel(), -1)).logabsdet
    torch.testing.assert_close(log_det, expected, rtol=1e-8, atol=1e-10)


def test_flow_inverts(flow: Model, x: torch.Tensor):
    flow, x = flow.double(), x.double()
    torch.testing.assert_close(flow.inverse(flow(x)[0]), x, rtol=0, atol=1e-9)


def test_log_det_is_that_of_the_jacobian(flow: Model, x: torch.Tensor):
    flow, x = flow.double(), x.double()
    log_det = flow(x)[1]
    assert log_det.shape == (len(x),)
    for window, found in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], window)
        expected = torch.linalg.slogdet(jacobian.reshape(flow.dims, flow.dims)).logabsdet
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)


def test_nll_is_the_density_of_the_change_of_variables(flow: Model, x: torch.Tensor):
    flow, x = flow.double(), x.double()
    z, log_det = flow(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1)
    torch.testing.assert_close(flow.score(x), -(normal + log_det) / flow.dims)


def test_log_prob_is_in_nats_not_per_dimension(flow: Model, x: torch.Tensor):
    torch.testing.assert_close(flow.log_prob(x), -flow.dims * flow.score(x))


def test_samples_are_windows_whose_noise_is_what_was_drawn(flow: Model):
    flow = flow.double()
    windows = flow.sample(3, torch.Generator().manual_seed(1))
    assert windows.shape == (3, flow.frames, flow.bands)
    noise = torch.randn(
        3, flow.dims, generator=torch.Generator().manual_seed(1), dtype=windows.dtype
    )
    torch.testing.assert_close(flow(windows)[0], noise, atol=1e-6, rtol=0)
    assert not torch.equal(flow.sample(3), windows)


def test_map_adds_up_to_nll(flow: Model, x: torch.Tensor):
    flow, x = flow.double(), x.double()
    torch.testing.assert_close(flow.score_map(x).sum(dim=(1, 2)), flow.score(x), rtol=0, atol=1e-12)


def test_fold_gives_the_same_nll_and_map(flow: Model, x: torch.Tensor):
    nll, nll_map = flow.fold()(x)
    torch.testing.assert_close(nll, flow.score(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(nll_map, flow.score_map(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(nll_map.sum(dim=(1, 2)), nll, rtol=0, atol=1e-5)


def test_fold_leaves_the_flow_trainable(flow: Model, x: torch.Tensor):
    flow.fold()
    assert all(parameter.requires_grad for parameter in flow.parameters())
    flow.score(x).mean().backward()
    assert all(parameter.grad is not None for parameter in flow.parameters())


@pytest.mark.parametrize("spec", FRESH, ids=str)
def test_start_makes_actnorm_outputs_standard(spec: ModelSpec):
    torch.manual_seed(0)
    flow = build(spec)
    x = 3 + 5 * torch.randn(256, spec.frames, spec.bands)
    flow.initialize(x)
    outputs: list[torch.Tensor] = []
    for module in flow.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda m, args, out: outputs.append(out[0]))
    flow(x)
    for out in outputs:
        kept = [0, *range(2, out.dim())]
        torch.testing.assert_close(out.mean(dim=kept), torch.zeros(out.shape[1]), atol=1e-3, rtol=0)
        torch.testing.assert_close(out.std(dim=kept), torch.ones(out.shape[1]), atol=0.05, rtol=0)


def test_a_constant_dimension_starts_finite(spec: ModelSpec):
    flow = build(spec)
    x = torch.randn(64, spec.frames, spec.bands)
    x[:, :, 0] = 0
    flow.initialize(x)
    assert flow.score(x).isfinite().all()


def test_the_paper_sizes():
    glow, maf = Glow(GlowSpec()), MAF(MAFSpec())
    assert [len(steps) for steps, _ in glow.scales()] == [12, 12, 12]
    assert glow.scales()[0][0][0].coupling.conditioner[2].weight.shape == (128, 128, 1, 1)
    assert (glow.frames, glow.bands, maf.dims) == (32, 128, 512)
    assert [block.hidden.out_features for block, _ in maf.pairs()] == [512] * 4


def test_made_masks_let_every_earlier_dimension_through():
    made = AdditiveAutoregression(6, 40, reverse=False)
    reach = (made.out_mask @ made.in_mask) > 0
    torch.testing.assert_close(reach, torch.ones(6, 6).tril(-1).bool())


def unseen(made: AdditiveAutoregression) -> set[int]:
    """Of which dimensions k and k + 1 neither shifts the other."""
    reach = (made.out_mask @ made.in_mask) > 0
    dims = len(reach)
    return {k for k in range(dims - 1) if not (reach[k + 1, k] or reach[k, k + 1])}


@pytest.mark.parametrize(
    ("dims", "hidden"), [(512, 256), (384, 192), (384, 256), (9, 4), (10, 5), (6, 40)]
)
def test_staggered_masks_hide_no_neighbour_twice(dims: int, hidden: int):
    pair = [
        AdditiveAutoregression(dims, hidden, reverse=reverse, masks="staggered")
        for reverse in (False, True)
    ]
    assert not unseen(pair[0]) & unseen(pair[1])
    for made in pair:
        reach = (made.out_mask @ made.in_mask) > 0
        strict = reach.triu(1) if made.reverse else reach.tril(-1)
        assert torch.equal(strict, reach)


def test_aligned_masks_stay_as_old_runs_have_them():
    pair = [AdditiveAutoregression(512, 256, reverse=reverse) for reverse in (False, True)]
    assert [len(unseen(made)) for made in pair] == [255, 255]
    assert len(unseen(pair[0]) & unseen(pair[1])) == 254
    assert MAFSpec.from_dict({"name": "maf", "frames": 4}).masks == "aligned"
    assert preset("maf", "small").model.masks == preset("maf", "paper").model.masks == "staggered"
    with pytest.raises(ConfigError, match="unknown masks 'none': choose aligned or staggered"):
        MAFSpec(masks="none")


def test_a_maf_on_a_linear_flow_starts_as_that_flow():
    torch.manual_seed(0)
    spec = SPECS[-1]
    flow, linear = build(spec), stir(LinearFlow(LinearSpec(frames=2, bands=8)))
    flow.linear.load_state_dict(linear.state_dict())
    x = torch.randn(7, 2, 8)
    flow.initialize(x)
    torch.testing.assert_close(flow.score(x), linear.score(x), rtol=0, atol=1e-6)
    assert len(flow.fold().conditioners) == 1 + spec.blocks


def test_only_a_maf_starts_from_the_linear_flow():
    settings = preset("maf", "small", start="linear", statistics=("mean", "max"))
    assert settings.model.starts_fitted
    assert settings.model.frames == settings.view.rows == 2
    with pytest.raises(ConfigError, match="a glow does not start from the linear flow: choose maf"):
        preset("glow", "small", start="linear")
    with pytest.raises(ConfigError, match="unknown start 'warm': choose one of fresh, linear"):
        preset("maf", "small", start="warm")


def test_a_window_that_cannot_be_halved_is_refused():
    with pytest.raises(ConfigError, match="halves its window 3 times"):
        GlowSpec(frames=12)
