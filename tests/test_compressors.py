"""Memory compressors: shapes, places, locality, gradients, and EdgeTAM's Perceiver with the same weights."""

from __future__ import annotations

import pytest
import torch
from transformers import EdgeTamVideoConfig
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoPerceiverResampler
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoPositionEmbeddingSine

from phd.errors import UserError
from phd.heads.memory.compressors import (
    CompressorKind,
    Dense,
    MemorySettings,
    build_compressor,
    nearest_windows,
    rotary_places,
)
from phd.heads.memory.perceiver import SpatialPerceiver
from phd.heads.memory.state_space import linear_recurrence
from phd.heads.memory.tokens import sine_positions, split_windows, window_centres

DIM = 64


def a_map(count: int, grid: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A memory map and the code of its cells."""
    memory = torch.randn(count, DIM, grid, grid, generator=torch.Generator().manual_seed(seed))
    return memory, sine_positions(window_centres(grid, grid), grid, DIM).T.view(1, DIM, grid, grid)


@pytest.mark.parametrize("grid", [72, 64])
def test_the_default_is_128_tokens_on_both_grids(grid: int) -> None:
    compressor = build_compressor(MemorySettings(), grid, DIM)
    tokens = compressor(*a_map(2, grid))
    assert compressor.num_tokens == 128
    assert tokens.values.shape == (2, 128, DIM)
    assert tokens.positions.shape == (128, DIM)
    assert (tokens.positions[:64] == 0).all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("none", 144), ("flat", 5), ("spatial", 16), ("both", 21), ("pool", 16), ("state_space", 16)],
)
def test_every_kind_counts_its_tokens(kind: CompressorKind, expected: int) -> None:
    compressor = build_compressor(MemorySettings(kind, num_global=5, windows=4), 12, DIM)
    assert compressor.num_tokens == compressor(*a_map(3, 12)).values.shape[1] == expected


def test_windows_that_do_not_divide_the_grid_are_refused_with_the_legal_ones() -> None:
    with pytest.raises(
        UserError, match=r"windows is 16, .* 72 x 72; choose one of 1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36"
    ):
        SpatialPerceiver(72, windows=16)
    with pytest.raises(UserError, match="both 0, so a frame would leave nothing"):
        SpatialPerceiver(72, num_global=0, windows=0)


def test_objects_do_not_see_each_other() -> None:
    compressor = build_compressor(MemorySettings(num_global=4, windows=3), 12, DIM)
    memory, positions = a_map(3, 12)
    together = compressor(memory, positions).values
    for number in range(3):
        alone = compressor(memory[number : number + 1], positions).values
        torch.testing.assert_close(together[number : number + 1], alone)


def test_one_cell_reaches_every_global_latent_and_one_window() -> None:
    compressor = build_compressor(MemorySettings(num_global=4, windows=3), 12, DIM)
    memory, positions = a_map(1, 12)
    changed = memory.clone()
    changed[0, :, 5, 10] *= -1  # row 5 and column 10 of 12: window (1, 2) of 3 x 3
    difference = (compressor(changed, positions).values - compressor(memory, positions).values).abs().amax((0, 2))
    assert (difference[:4] > 0).all()
    assert difference[4:].nonzero().flatten().tolist() == [1 * 3 + 2]


def test_the_perceiver_starts_as_a_mean_of_each_window() -> None:
    compressor = SpatialPerceiver(12, DIM, num_global=4, windows=3)
    memory, positions = a_map(2, 12)
    found = compressor(memory, positions).values[:, 4:]
    alike = torch.nn.functional.cosine_similarity(found, split_windows(memory, 3).mean(2), dim=-1)
    others = torch.nn.functional.cosine_similarity(found, split_windows(memory, 3).mean(2).roll(1, 1), dim=-1)
    assert alike.min() > 0.8
    assert others.abs().mean() < 0.3


def test_a_window_lies_at_its_centre() -> None:
    centres = window_centres(72, 8)
    assert centres[0].tolist() == [4, 4]
    assert centres[1].tolist() == [13, 4]
    assert centres[8].tolist() == [4, 13]
    assert window_centres(4, 2)[3].tolist() == [2.5, 2.5]
    # The mean of the places of a window's cells is its centre.
    cells = window_centres(12, 12).T.view(1, 2, 12, 12)
    torch.testing.assert_close(split_windows(cells, 3).mean(2)[0], window_centres(12, 3))


def test_the_code_of_cells_is_the_librarys() -> None:
    library = Sam3TrackerVideoPositionEmbeddingSine(num_position_features=DIM // 2, normalize=True)
    expected = library(torch.Size([1, DIM, 9, 9]), "cpu", torch.float32)
    torch.testing.assert_close(a_map(1, 9)[1], expected)
    # Between two cells lies what is between their angles.
    middle = sine_positions(torch.tensor([[2.5, 3.0]]), 9, DIM)
    assert (middle - sine_positions(torch.tensor([[2.0, 3.0]]), 9, DIM)).abs().max() > 0


def test_global_tokens_have_no_place() -> None:
    compressor = build_compressor(MemorySettings(num_global=2, windows=1), 9, DIM)
    places, placed = rotary_places(compressor, frames=2)
    assert placed.tolist() == [False, False, True] * 2
    assert places.tolist() == [[0, 0], [0, 0], [4, 4]] * 2


@pytest.mark.parametrize("grid", [64])
def test_the_latents_are_edgetams(grid: int) -> None:
    config = EdgeTamVideoConfig(perceiver_resampler_num_latents=6, perceiver_resampler_num_latents_2d=256)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    library = EdgeTamVideoPerceiverResampler(config).eval()
    ours = SpatialPerceiver(grid, num_global=6, windows=16).eval()
    result = ours.load_state_dict(library.state_dict())
    assert not result.missing_keys
    assert not result.unexpected_keys
    memory, positions = a_map(1, grid)
    with torch.no_grad():
        expected, _ = library(memory, positions)
        torch.testing.assert_close(ours(memory, positions).values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "spatial", "both", "state_space"])
def test_gradients_reach_every_parameter(kind: CompressorKind) -> None:
    compressor = build_compressor(MemorySettings(kind, num_global=4, windows=3), 12, DIM)
    weight = torch.randn(DIM, generator=torch.Generator().manual_seed(1))
    (compressor(*a_map(2, 12)).values * weight).sum().backward()
    # A window's latent attends to itself alone, so with windows only no softmax of the self-attention can learn.
    alone = {"self_attention.q_proj", "self_attention.k_proj"} if kind == "spatial" else set()
    for name, parameter in compressor.named_parameters():
        if not any(part in name for part in alone):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_pooling_and_none_are_what_they_say() -> None:
    memory, positions = a_map(2, 12)
    pooled = build_compressor(MemorySettings("pool", windows=4), 12, DIM)(memory, positions).values
    torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(memory, 3).flatten(2).transpose(1, 2))
    dense = Dense(12, DIM)
    tokens = dense(memory, positions)
    assert torch.equal(tokens.values[:, 12 + 5], memory[:, :, 1, 5])
    torch.testing.assert_close(tokens.positions, dense.positions)


def test_the_recurrence_is_the_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    decay, update = torch.rand(2, 37, 3, generator=generator), torch.randn(2, 37, 3, generator=generator)
    state, states = torch.zeros(2, 3), []
    for step in range(37):
        state = decay[:, step] * state + update[:, step]
        states.append(state)
    torch.testing.assert_close(linear_recurrence(decay, update), torch.stack(states, dim=1))


def test_the_state_space_carries_what_it_saw_across_windows() -> None:
    torch.manual_seed(0)
    compressor = build_compressor(MemorySettings("state_space", windows=3), 12, DIM)
    memory, positions = a_map(1, 12)
    changed = memory.clone()
    changed[0, :8, 5, 5] += 1
    difference = (compressor(changed, positions).values - compressor(memory, positions).values).abs().amax((0, 2))
    assert (difference > 0).sum() > 1
    assert difference.argmax() == 4


def test_the_nearest_legal_number_of_windows() -> None:
    assert [nearest_windows(72, tokens) for tokens in (64, 128, 256)] == [8, 12, 18]
    assert nearest_windows(64, 128) == 8
