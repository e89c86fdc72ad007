import pytest
import torch

from distill_user_dir.modules.cluster_heads import CodebookHead, LinearHead, cluster_head, cosines


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cosines_are_torchs():
    x, codebook = random(5, 7), random(11, 7, seed=1)
    expected = torch.cosine_similarity(x.unsqueeze(1), codebook.unsqueeze(0), dim=-1)
    assert float((cosines(x, codebook) - expected).abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_does_not_round_the_product(dtype):
    x, codebook = random(5, 64), random(11, 64, seed=1)
    with torch.autocast("cpu", dtype=dtype):
        found = cosines(x, codebook)
    assert found.dtype == torch.float32 and torch.equal(found, cosines(x, codebook))


def test_half_precision_gives_float32_cosines():
    head = CodebookHead(6, 64, [11]).half()
    assert head(random(5, 6).half()).dtype == torch.float32


@pytest.mark.parametrize("tied", [False, True])
def test_sets_have_their_own_projection_unless_tied(tied):
    head = CodebookHead(6, 4, [3, 5], tied)
    head.codebook.copy_(random(8, 4))
    x = random(9, 6, seed=2)
    first, second = head(x, 0), head(x, 1)
    assert first.shape == (9, 3) and second.shape == (9, 5)
    projected = head.projection(x)
    expected = cosines(projected if tied else projected[:, 4:], head.codebook[3:])
    assert torch.allclose(second, expected, atol=1e-6)
    assert [name for name, _ in head.named_parameters()] == ["projection.weight", "projection.bias"]


def test_linear_head_splits_by_set():
    head = LinearHead(6, [3, 5])
    x = random(9, 6)
    sets = [head(x, number) for number in (0, 1)]
    assert torch.allclose(torch.cat(sets, -1), head.projection(x), atol=1e-6) and sets[1].shape == (9, 5)


def test_kinds():
    assert isinstance(cluster_head("linear", 6, 0, [3]), LinearHead)
    assert isinstance(cluster_head("codebook", 6, 4, [3]), CodebookHead)
