"""Time coloured-noise masks against a loop over clips, and against a training step.

Ours draws all masks of a batch at once or, as the collators do for reproducibility, one per clip from the clip's seed.
The loop is the usual implementation: for each clip, crop and flip a volume of the same bank with NumPy and rank it by
sorting twice. Rounds alternate, so that load on the machine affects both equally; times are medians. The last number is
the share of the collator's draws in an optimiser step of VideoMAE with green noise.

Examples:
  python scripts/benchmark_masks.py
  python scripts/benchmark_masks.py --size base --step-clips 2 --json masks.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tubelets import TubeletsVideoMAEConfig, TubeletsVideoMAEForPreTraining
from tubelets.masking import NoiseMaskGenerator

CASES = {
    "green3d, 8 x 14 x 14": NoiseMaskGenerator("green3d", (8, 14, 14), 0.9),
    "green2d, 8 x 14 x 14": NoiseMaskGenerator("green2d", (8, 14, 14), 0.9),
    "blue2d, spectrogram of 64 x 8": NoiseMaskGenerator("blue2d", (1, 64, 8), 0.8),
}
SIZES = {
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "decoder_hidden_size": 192,
              "decoder_num_attention_heads": 3, "decoder_intermediate_size": 768},
    "base": {},
}  # fmt: skip


def loop_over_clips(bank: np.ndarray, grid: Sequence[int], num_visible: int, clips: int, seed: int) -> np.ndarray:
    """Crop and flip noise for each clip and rank it by two sorts, time step by time step.

    Args:
        bank: volumes `(N, time, rows, columns)`; time is 1 for patterns that repeat.
        grid: tokens in time, rows and columns.
        num_visible: visible tokens per time step.
        clips: masks to draw.
        seed: seed of the crops.

    Returns:
        Bool `(clips, tokens)`, True = masked.
    """
    numbers = np.random.default_rng(seed)
    sides = (min(grid[0], bank.shape[1]), *grid[1:])
    masks = []
    for _ in range(clips):
        volume = bank[numbers.integers(len(bank))]
        starts = [numbers.integers(have - want + 1) for have, want in zip(volume.shape, sides, strict=True)]
        crop = volume[tuple(slice(start, start + want) for start, want in zip(starts, sides, strict=True))]
        crop = np.flip(crop, np.flatnonzero(numbers.random(3) < 0.5).tolist())
        order = np.argsort(-crop.reshape(sides[0], -1), axis=1)
        ranks = np.argsort(order, axis=1)
        masks.append(np.broadcast_to(ranks >= num_visible, (grid[0], grid[1] * grid[2])).reshape(-1))
    return np.stack(masks)


def draw_for_each_clip(generator: NoiseMaskGenerator, clips: int, seed: int) -> torch.Tensor:
    """Draw masks as the collators do, from each clip's own seed."""
    return torch.cat([generator(1, generator=torch.Generator().manual_seed(seed + clip)) for clip in range(clips)])


def milliseconds(function: Callable[[], object]) -> float:
    """Duration of a call in milliseconds."""
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def measure_drawing(generator: NoiseMaskGenerator, clips: int, rounds: int) -> dict[str, float]:
    """Median times of drawing a batch each way, in milliseconds, and the ratios of the loop to ours.

    Args:
        generator: the mask generator; its bank is built beforehand.
        clips: masks per batch.
        rounds: timed rounds, after one warm-up.
    """
    bank = generator.bank.numpy()
    visible = (generator.grid[0] * generator.grid[1] * generator.grid[2] - generator.num_masked) // generator.grid[0]
    times: dict[str, list[float]] = {"batch": [], "each clip": [], "loop": []}
    for number in range(rounds + 1):
        parts: dict[str, Callable[[], Any]] = {
            "batch": lambda seed=number: generator(clips, generator=torch.Generator().manual_seed(seed)),
            "each clip": lambda seed=number: draw_for_each_clip(generator, clips, 1000 * seed),
            "loop": lambda seed=number: loop_over_clips(bank, generator.grid, visible, clips, seed),
        }
        for name, part in parts.items():
            elapsed = milliseconds(part)
            if number:
                times[name].append(elapsed)
    result = {name: statistics.median(values) for name, values in times.items()}
    for name in ("batch", "each clip"):
        pairs = zip(times["loop"], times[name], strict=True)
        result[f"ratio, {name}"] = statistics.median(slow / fast for slow, fast in pairs)
    return result


def measure_step(size: str, clips: int, rounds: int) -> dict[str, float]:
    """Median times of an optimiser step and of the collator's draws for it, in milliseconds, and their ratio.

    Args:
        size: key of `SIZES`.
        clips: clips per step.
        rounds: timed rounds, after one warm-up.
    """
    torch.manual_seed(0)
    config = TubeletsVideoMAEConfig(**SIZES[size], mask_type="green3d")
    model = TubeletsVideoMAEForPreTraining(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    generator = config.build_mask_generator()
    _ = generator.bank
    shape = (clips, config.num_frames, 3, config.image_size, config.image_size)
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    times: dict[str, list[float]] = {"draws": [], "step": []}

    def step(masks: torch.Tensor) -> None:
        model(pixel_values=pixels, bool_masked_pos=masks, num_masked=generator.num_masked).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for number in range(rounds + 1):
        masks = draw_for_each_clip(generator, clips, number)
        drawn = milliseconds(lambda seed=number: draw_for_each_clip(generator, clips, seed))
        elapsed = milliseconds(lambda masks=masks: step(masks))
        if number:
            times["draws"].append(drawn)
            times["step"].append(elapsed)
    result = {name: statistics.median(values) for name, values in times.items()}
    result["share"] = statistics.median(a / b for a, b in zip(times["draws"], times["step"], strict=True))
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256, help="masks per batch (default: 256)")
    parser.add_argument("--rounds", type=int, default=15, help="timed batches of each method (default: 15)")
    parser.add_argument(
        "--size", choices=sorted(SIZES), default="small", help="ViT size of the training step (default: small)"
    )
    parser.add_argument("--step-clips", type=int, default=4, help="clips per training step (default: 4)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads (default: 1)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = {name: measure_drawing(case, options.batch_size, options.rounds) for name, case in CASES.items()}
    for name, found in results.items():
        print(
            f"{name}: {options.batch_size} masks in {found['batch']:.1f} ms at once, {found['each clip']:.1f} ms one "
            f"by one; loop {found['loop']:.1f} ms, {found['ratio, batch']:.1f} x and "
            f"{found['ratio, each clip']:.1f} x as long"
        )
    step = measure_step(options.size, options.step_clips, options.steps)
    print(
        f"an optimiser step of {options.step_clips} clips, ViT-{options.size[0].upper()}: {step['step']:.0f} ms; its "
        f"masks, one by one: {step['draws']:.2f} ms, {step['share']:.2%}"
    )
    if options.json is not None:
        content = {"batch_size": options.batch_size, "threads": options.threads, "drawing": results, "step": step}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
