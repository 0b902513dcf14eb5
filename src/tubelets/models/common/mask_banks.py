"""Banks of coloured noise as files, built once and shared by runs (structured_noise_masking.md, 9).

A bank is one safetensors file with the settings it was built from, in a folder or a Hub data set. Nothing in
it is executed.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tubelets.data.atomic import write_atomically
from tubelets.masking import NoiseMaskGenerator
from tubelets.models.common.errors import CheckpointLayoutError

FILE = "mask_bank.safetensors"
# Fields that determine the noise; the others determine how masks are cropped from it.
MADE_FROM = (
    "kind", "sigma_low", "sigma_high", "temporal_sigma_ratio", "bank_size", "volume_shape", "weights", "seed"
)  # fmt: skip


def save_mask_bank(generator: NoiseMaskGenerator, folder: str | Path) -> Path:
    """Write the bank of a generator.

    Args:
        generator: the generator, whose bank is built if necessary.
        folder: created if needed; an existing bank is replaced.

    Returns:
        The file.

    Example:
        >>> import tempfile
        >>> small = NoiseMaskGenerator("red3d", (2, 4, 4), 0.5, bank_size=2, volume_shape=(4, 8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     name = save_mask_bank(small, folder).name
        ...     again = load_mask_bank(folder, (2, 4, 4), 0.5)
        >>> name, bool((again.bank == small.bank).all())
        ('mask_bank.safetensors', True)
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fields = dataclasses.asdict(generator)
    made_from = {name: fields[name] for name in MADE_FROM}
    if generator.kind == "regularized_blue":
        # Its masks are whole grids with their count of visible tokens.
        made_from |= {name: fields[name] for name in ("grid", "mask_ratio", "count_rule")}
    content, metadata = {"bank": generator.bank.contiguous()}, {"format": "pt", "made_from": json.dumps(made_from)}
    write_atomically(folder / FILE, lambda temporary: save_file(content, temporary, metadata))
    return folder / FILE


def load_mask_bank(
    source: str | Path, grid: tuple[int, ...], mask_ratio: float, *, token: str | None = None, **options: Any
) -> NoiseMaskGenerator:
    """Read a bank and build the generator that crops masks from it.

    Args:
        source: the folder or file, or the id of a data set on the Hub.
        grid: token grid `(time, rows, columns)`, or `(time, bands)` for regularised blue noise.
        mask_ratio: share of masked tokens, in [0, 1).
        token: access token of a private data set.
        **options: fields of `NoiseMaskGenerator` that do not decide the noise: `per_slot`, `count_rule`, `flips`.

    Returns:
        The generator; its masks are those of the generator that was saved, for equal seeds, grid and options.

    Raises:
        FileNotFoundError: if the file is missing.
        CheckpointLayoutError: if the file is corrupt or not a bank.
        ValueError: if an option would change the noise, or the bank was not built for that grid.
    """
    path = _find(source, token)
    try:
        with safe_open(path, framework="pt") as file:
            bank, stated = file.get_tensor("bank"), json.loads((file.metadata() or {})["made_from"])
        made_from = {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}
    except (SafetensorError, KeyError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointLayoutError(f"{path} is corrupt or not a bank of masks ({error})") from error
    fixed = sorted(set(options) & set(made_from))
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot be chosen: the bank {source} was made with {stated[fixed[0]]!r}")
    wanted = {"grid": tuple(grid), "mask_ratio": mask_ratio}
    for name, value in wanted.items():
        if made_from.get(name, value) != value:
            raise ValueError(f"the bank {source} was made for {name}={made_from[name]}, not for {value}; make another")
    try:
        generator = NoiseMaskGenerator(**{**made_from, **wanted, **options})
    except TypeError as error:
        raise CheckpointLayoutError(f"{path} is not a bank of this package's masks ({error})") from error
    return generator.with_bank(bank)


def _find(source: str | Path, token: str | None) -> Path:
    path = Path(source)
    if path.is_dir():
        path = path / FILE
    if path.is_file():
        return path
    if path.exists() or path.suffix or not str(source).count("/") == 1 or str(source).startswith((".", "/")):
        raise FileNotFoundError(f"{source}: bank of masks not found; make one with `tubelets masks`")
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(str(source), FILE, repo_type="dataset", token=token))
