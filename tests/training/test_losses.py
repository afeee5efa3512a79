from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import warm

from isc_fast.training.loop.losses import CrossBatchMemory, contrastive_loss, gradient_scale, info_nce_loss
from isc_fast.training.stages import NO_PHOTO

HERE = Path(__file__).parents[1]


class PlainMemory:
    """The method in plain numpy, with lists: an independent statement of the loss."""

    def __init__(self, size: int) -> None:
        self.size, self.entries, self.written = size, [], 0

    def step(self, vectors, labels, pos_margin, neg_margin):
        born = []
        for vector, label in zip(vectors, labels, strict=True):
            entry = [vector.astype(np.float64), int(label), self.written]
            if len(self.entries) < self.size:
                self.entries.append(entry)
            else:
                self.entries[self.written % self.size] = entry
            born.append(self.written)
            self.written += 1
        positive, negative = [], []
        for vector, label, own in zip(vectors, labels, born, strict=True):
            for other, other_label, number in self.entries:
                if number == own:
                    continue
                distance = np.linalg.norm(vector.astype(np.float64) - other)
                if other_label == label and distance > pos_margin:
                    positive.append(distance - pos_margin)
                if other_label != label and distance < neg_margin:
                    negative.append(neg_margin - distance)
        return (np.mean(positive) if positive else 0.0) + (np.mean(negative) if negative else 0.0)


def batch(seed: int, count: int = 6, dim: int = 4):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, random.integers(0, 4, count)


@pytest.mark.parametrize(("pos_margin", "neg_margin"), [(0.0, 1.0), (0.0, 1.1), (0.2, 0.7)])
@pytest.mark.parametrize("size", [6, 16, 17, 100])
def test_it_equals_the_plain_statement_while_the_memory_fills_and_wraps(size, pos_margin, neg_margin):
    memory, plain = CrossBatchMemory(size, 4), PlainMemory(size)
    for seed in range(7):
        vectors, labels = batch(seed)
        found = contrastive_loss(
            torch.from_numpy(vectors), torch.from_numpy(labels), memory, pos_margin=pos_margin, neg_margin=neg_margin
        )
        assert float(found.loss) == pytest.approx(plain.step(vectors, labels, pos_margin, neg_margin), abs=1e-6)
        assert float(found.loss) == pytest.approx(float(found.positive + found.negative))


def test_gradients_go_through_the_anchors_and_are_finite_at_equal_rows():
    vectors, labels = batch(1)
    vectors[1], labels[1] = vectors[0], labels[0]
    memory = CrossBatchMemory(12, 4)
    tensor = torch.from_numpy(vectors).requires_grad_()
    contrastive_loss(tensor, torch.from_numpy(labels), memory, pos_margin=0.0, neg_margin=1.0).loss.backward()
    assert torch.isfinite(tensor.grad).all()
    assert tensor.grad.abs().sum() > 0
    assert not memory.vectors.requires_grad

    # The gradient of row 2, by moving it and leaving its copy in the memory where it is.
    step = 1e-3
    direction = np.zeros_like(vectors)
    direction[2, 1] = step
    values = []
    for sign in (1, -1):
        fresh = CrossBatchMemory(12, 4)
        moved = torch.from_numpy(vectors + sign * direction)
        fresh.put = lambda _, found, m=fresh: CrossBatchMemory.put(m, torch.from_numpy(vectors), found)  # type: ignore[method-assign]
        values.append(
            float(contrastive_loss(moved, torch.from_numpy(labels), fresh, pos_margin=0.0, neg_margin=1.0).loss)
        )
    assert float(tensor.grad[2, 1]) == pytest.approx((values[0] - values[1]) / (2 * step), abs=2e-2)


PML_LOSS, PML_GRADIENT = 0.6062013, 0.1535313  # of the batches of `as_in_v107`


def as_in_v107(repeats: int):
    """16 pairs and 480 negatives, of which the first ``repeats`` stand there twice, and the labels."""
    random = np.random.default_rng(1)
    queries = random.normal(size=(16, 256))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    vectors = np.concatenate([queries, queries + 0.045 * random.normal(size=(16, 256)), random.normal(size=(480, 256))])
    labels = np.concatenate([np.arange(16), np.arange(16), 1_000_000 + np.arange(480)])
    places = 32 + 2 * np.arange(repeats)
    vectors[places + 1], labels[places + 1] = vectors[places], labels[places]
    return torch.from_numpy(vectors.astype(np.float32)), torch.from_numpy(labels)


def loss_and_gradient(vectors, labels, neg_margin=1.1):
    memory, leaf = CrossBatchMemory(1_000, vectors.shape[1]), vectors.clone().requires_grad_()
    loss = contrastive_loss(leaf, labels, memory, pos_margin=0.0, neg_margin=neg_margin).loss
    loss.backward()
    return loss.item(), leaf.grad


@pytest.mark.parametrize("repeats", [0, 1, 20])
def test_an_image_twice_in_a_batch_does_not_thin_out_the_true_pairs(repeats):
    """The published loss counts distances above 0.

    The figures are those of pytorch-metric-learning 2.9.0, ``CrossBatchMemory(ContrastiveLoss(pos_margin=0, neg_margin=1.1))``
    on these batches, with distances that are computed without a matrix product, whose rounding would hide equal rows.
    """
    vectors, labels = as_in_v107(repeats)
    loss, gradient = loss_and_gradient(vectors, labels)
    assert loss == pytest.approx(PML_LOSS, abs=1e-6)
    assert float(gradient[:32].norm()) == pytest.approx(PML_GRADIENT, rel=1e-5)
    assert float(gradient[32:].abs().max()) == 0


def test_equal_images_are_equal_in_bf16_too():
    """Rounded to bf16, rows lose their unit length, and twice the same row would seem 0.1 from itself."""
    vectors, labels = as_in_v107(20)
    rounded = torch.nn.functional.normalize(vectors).bfloat16()
    once = loss_and_gradient(*(values[:32] for values in (rounded.float(), labels)))[0]
    assert loss_and_gradient(rounded, labels)[0] == pytest.approx(once, abs=1e-6)
    assert once == pytest.approx(PML_LOSS, rel=2e-3)


def test_equal_rows_of_different_images_are_pushed_by_nothing():
    """The gradient of a distance is not finite at 0; as published, it counts as 0 there."""
    rows = torch.nn.functional.normalize(torch.ones(2, 4))
    loss, gradient = loss_and_gradient(rows, torch.arange(2))
    assert loss == pytest.approx(1.1)
    assert float(gradient.abs().max()) == 0


def test_what_tells_of_collapse():
    memory = CrossBatchMemory(8, 4)
    same = torch.nn.functional.normalize(torch.ones(8, 4))
    parts = contrastive_loss(same, torch.arange(8) // 2, memory, pos_margin=0.0, neg_margin=1.0)
    assert float(parts.active_negatives) == 1.0
    assert float(parts.negative_distance) < 1e-5
    apart = torch.eye(4).repeat_interleave(2, 0)
    parts = contrastive_loss(apart, torch.arange(8) // 2, memory, pos_margin=0.0, neg_margin=1.0)
    assert float(parts.active_negatives) == 0.0
    assert float(parts.negative_distance) == pytest.approx(2**0.5)
    assert float(parts.positive_distance) < 1e-5


def test_the_memory_resumes_exactly_and_refuses_what_does_not_fit():
    one, two = CrossBatchMemory(10, 4), CrossBatchMemory(10, 4)
    for seed in range(3):
        vectors, labels = batch(seed)
        one.put(torch.from_numpy(vectors), torch.from_numpy(labels))
    two.load_state_dict(one.state_dict())
    vectors, labels = (torch.from_numpy(array) for array in batch(9))
    margins = {"pos_margin": 0.0, "neg_margin": 1.0}
    assert float(contrastive_loss(vectors, labels, one, **margins).loss) == float(
        contrastive_loss(vectors, labels, two, **margins).loss
    )
    with pytest.raises(ValueError, match="does not fit into a memory of 10"):
        one.put(torch.zeros(11, 4), torch.zeros(11, dtype=torch.int64))
    with pytest.raises(ValueError, match="what was saved does not"):
        CrossBatchMemory(11, 4).load_state_dict(one.state_dict())


def test_the_published_world_sizes_take_the_published_step():
    """One process, or many, divided by the published number: the average over W ranks holds the true gradient over W."""
    for world in (1, 2, 8, 64):
        assert gradient_scale(world, 16) / world == pytest.approx(1 / 16)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    """Loss, averaged gradient and memory, over steps that wrap a memory of a size that is no multiple of the batch."""
    results = {}
    for world in (1, 2):
        done = warm.run_ranks([str(HERE / "loss_ranks.py"), str(tmp_path / f"{world}.npz")], world, timeout=120)
        assert done.returncode == 0, done.stderr
        results[world] = np.load(tmp_path / f"{world}.npz")
    for name in ("losses", "weight", "memory", "labels"):
        np.testing.assert_allclose(results[2][name], results[1][name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert results[1]["losses"].shape == (5,)


def plain_info_nce(vectors, labels, temperature, spread):
    """The definition, pair by pair, of a batch against itself."""
    vectors = vectors.astype(np.float64)
    losses, nearest = [], []
    for i, label in enumerate(labels):
        others = [j for j in range(len(labels)) if labels[j] != label]
        against = sum(np.exp(vectors[i] @ vectors[j] / temperature) for j in others)
        matching = [
            np.exp(vectors[i] @ vectors[j] / temperature) for j in range(len(labels)) if j != i and labels[j] == label
        ]
        if matching:
            losses.append(np.mean([-np.log(value / (value + against)) for value in matching]))
        nearest.append(min(np.linalg.norm(vectors[i] - vectors[j]) for j in others))
    return np.mean(losses) - spread * np.mean(np.log(nearest))


@pytest.mark.parametrize(("temperature", "spread"), [(0.05, 0.0), (0.2, 0.0), (0.05, 3.0)])
def test_info_nce_equals_its_definition(temperature, spread):
    vectors, labels = batch(3, count=12)
    memory = CrossBatchMemory(40, 4)
    found = info_nce_loss(
        torch.from_numpy(vectors), torch.from_numpy(labels), memory, temperature=temperature, spread=spread
    )
    assert float(found.loss) == pytest.approx(plain_info_nce(vectors, labels, temperature, spread), rel=1e-5)
    assert float(found.loss) == pytest.approx(float(found.positive + found.negative))
    assert memory.filled == 12


def test_the_contrastive_loss_can_spread_too():
    vectors, labels = batch(4, count=12)
    losses = [
        float(
            contrastive_loss(
                torch.from_numpy(vectors), torch.from_numpy(labels), CrossBatchMemory(12, 4),
                pos_margin=0.0, neg_margin=1.0, spread=spread,
            ).loss
        )
        for spread in (0.0, 2.0)
    ]  # fmt: skip
    nearest = [
        min(np.linalg.norm(vectors[i] - vectors[j]) for j in range(12) if labels[j] != labels[i]) for i in range(12)
    ]
    assert losses[1] - losses[0] == pytest.approx(-2 * np.mean(np.log(nearest)), rel=1e-4)


def test_spreading_moves_neighbours_apart_and_survives_equal_rows():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], requires_grad=True)
    info_nce_loss(rows, torch.arange(4), CrossBatchMemory(8, 2), temperature=0.05, spread=1.0).loss.backward()
    assert torch.isfinite(rows.grad).all()
    # No pair matches, so the spreading term alone moves them: the third row goes away from the fourth, its nearest.
    assert float((-rows.grad[2]) @ torch.tensor([0.8, -0.6])) > 0


def test_a_view_of_several_photos_matches_each_of_them():
    """Row 0 shows photo 7 beside 8, row 1 shows 8, row 2 shows 9 beside 8, row 3 shows 5."""
    rows = [[7, 8], [8, NO_PHOTO], [9, 8], [5, NO_PHOTO]]
    vectors = torch.eye(4)
    memory = CrossBatchMemory(4, 4, photos=2)
    found = contrastive_loss(vectors, torch.tensor(rows), memory, pos_margin=0.0, neg_margin=2.0)
    matching = {(0, 1), (1, 0), (1, 2), (2, 1)}
    neither = {(0, 2), (2, 0)}  # both show photo 8, and neither is a view of it
    apart = {(i, j) for i in range(4) for j in range(4) if i != j} - matching - neither
    assert len(apart) == 6
    root = 2**0.5
    assert float(found.loss) == pytest.approx(root + (2 - root))
    moved = vectors.clone().requires_grad_()
    info_nce_loss(moved, torch.tensor(rows), CrossBatchMemory(4, 4, photos=2), temperature=1.0).loss.backward()
    assert float(moved.grad[0, 2]) == 0, "a pair that is neither has no gradient"
    assert float(moved.grad[0, 1]) < 0
    assert float(moved.grad[0, 3]) > 0


def test_labels_of_another_shape_do_not_fit_into_the_memory():
    with pytest.raises(ValueError, match="do not fit into a memory"):
        CrossBatchMemory(8, 4, photos=3).put(torch.eye(4), torch.arange(4))
