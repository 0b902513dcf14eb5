"""Banks of noise as files: read back, refused when damaged or unsuitable, and used by a collator."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tubelets import SmileConfig, TubeletsVideoMAEConfig
from tubelets.masking import NOISE_TYPES, NoiseMaskGenerator
from tubelets.models.common.auto import pretraining_collator
from tubelets.models.common.errors import CheckpointLayoutError
from tubelets.models.common.mask_banks import FILE, load_mask_bank, save_mask_bank

SMALL: dict[str, Any] = {"bank_size": 3, "volume_shape": (8, 16, 16)}
GRID = (4, 8, 8)


def grid_of(kind: str) -> tuple[int, ...]:
    return (16, 8) if kind == "regularized_blue" else GRID


@pytest.mark.parametrize("kind", NOISE_TYPES)
def test_a_saved_bank_gives_the_same_masks(kind: str, tmp_path: Path) -> None:
    sigma = {"sigma_low": (0.5, 0.7), "sigma_high": 2.0} if kind.startswith("green") else {}
    made = NoiseMaskGenerator(kind, grid_of(kind), 0.75, seed=5, **SMALL, **sigma)
    path = save_mask_bank(made, tmp_path)
    assert path == tmp_path / FILE
    assert [file.name for file in tmp_path.iterdir()] == [FILE], "nothing temporary is left"
    for source in (tmp_path, path, str(tmp_path)):
        loaded = load_mask_bank(source, grid_of(kind), 0.75)
        assert torch.equal(loaded.bank, made.bank)
        draws = [each(5, generator=torch.Generator().manual_seed(1)) for each in (made, loaded)]
        assert torch.equal(*draws)


def test_other_grids_and_ratios_are_cut_out_of_the_same_noise(tmp_path: Path) -> None:
    save_mask_bank(NoiseMaskGenerator("green3d", GRID, 0.75, **SMALL), tmp_path)
    other = load_mask_bank(tmp_path, (2, 4, 4), 0.5, per_slot=False)
    assert other(2, generator=torch.Generator().manual_seed(0)).sum(dim=1).tolist() == [16, 16]
    assert not other.per_slot


def test_a_bank_of_whole_masks_keeps_its_grid_and_ratio(tmp_path: Path) -> None:
    save_mask_bank(NoiseMaskGenerator("regularized_blue", (16, 8), 0.75, bank_size=2), tmp_path)
    with pytest.raises(ValueError, match=r"made for grid=\(16, 8\), not for \(8, 8\)"):
        load_mask_bank(tmp_path, (8, 8), 0.75)
    with pytest.raises(ValueError, match=r"made for mask_ratio=0\.75, not for 0\.5"):
        load_mask_bank(tmp_path, (16, 8), 0.5)


def test_what_decides_the_noise_cannot_be_chosen_again(tmp_path: Path) -> None:
    save_mask_bank(NoiseMaskGenerator("green3d", GRID, 0.75, **SMALL), tmp_path)
    with pytest.raises(ValueError, match=r"bank_size cannot be chosen.*made with 3"):
        load_mask_bank(tmp_path, GRID, 0.75, bank_size=8)


@pytest.mark.parametrize("damage", ["cut", "text", "no metadata", "foreign field", "other shape"])
def test_damaged_banks_are_refused(damage: str, tmp_path: Path) -> None:
    path = save_mask_bank(NoiseMaskGenerator("red3d", GRID, 0.75, **SMALL), tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("noise")
    elif damage == "no metadata":
        save_file(load_file(path), path)
    elif damage == "foreign field":
        save_file(load_file(path), path, {"made_from": '{"kind": "red3d", "colour": 3}'})
    else:
        stated = '{"kind": "red3d", "bank_size": 2, "volume_shape": [8, 16, 16]}'
        save_file(load_file(path), path, {"made_from": stated})
    with pytest.raises((CheckpointLayoutError, ValueError), match="bank"):
        load_mask_bank(tmp_path, GRID, 0.75)


@pytest.mark.parametrize("source", ["nowhere", "./nowhere", "banks/none.safetensors", "/no/where"])
def test_a_missing_bank_is_named(source: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{source}.*tubelets masks"):
        load_mask_bank(source, GRID, 0.75)


def items() -> list[dict[str, Any]]:
    return [{"pixel_values": torch.zeros(8, 3, 64, 64, dtype=torch.uint8), "seed": seed} for seed in range(3)]


@pytest.mark.parametrize("config_class", [TubeletsVideoMAEConfig, SmileConfig])
def test_a_collator_draws_from_the_bank_that_its_configuration_names(config_class: Any, tmp_path: Path) -> None:
    save_mask_bank(NoiseMaskGenerator("green3d", GRID, 0.75, **SMALL, seed=9), tmp_path)
    sizes: dict[str, Any] = {"image_size": 64, "patch_size": 8, "num_frames": 8, "mask_ratio": 0.75}
    sizes |= {"mask_type": "green3d"} | ({"objects": "shapes"} if config_class is SmileConfig else {})
    named = pretraining_collator(config_class(**sizes, mask_bank=str(tmp_path)))(items())
    made = pretraining_collator(config_class(**sizes, mask_options={**SMALL, "seed": 9}))(items())
    assert torch.equal(named["bool_masked_pos"], made["bool_masked_pos"])
    with pytest.raises(ValueError, match="holds green3d, not mask_type='red3d'"):
        pretraining_collator(config_class(**sizes | {"mask_type": "red3d"}, mask_bank=str(tmp_path)))
