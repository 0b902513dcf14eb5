"""Time skeletons: views of a batch against one sample at a time in NumPy, BiGRU against a frame at a time.

Both sides of a ratio alternate in one process, so that the machine's other work falls on both. Times are wall-clock
milliseconds, medians over rounds. The step is a training step of Skeleton-Contrast, sequence + graph, with its backward
pass; it differs only in who makes the views. Encoders are narrow by default; --full takes the paper's.

Examples:
  python scripts/benchmark_skeletons.py
  python scripts/benchmark_skeletons.py --full --rounds 3 --json skeletons.json
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tubelets import SkeletonContrastConfig, SkeletonContrastForPreTraining
from tubelets.models.backbones.bigru.modeling_bigru import TwoGrus
from tubelets.models.methods.skeleton_contrast.processing_skeleton_contrast import SkeletonContrastCollator

NARROW: dict[str, dict[str, Any]] = {
    "sequence_options": {"hidden_size": 128, "num_layers": 2},
    "graph_options": {"hidden_sizes": [16, 16, 32]},
}
JOINTS, FRAMES, BODIES = 25, 64, 2


def milliseconds(function: Callable[[], object]) -> float:
    """Wall-clock time of a call."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def compared(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each case; rounds alternate between the cases after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, function in cases.items():
            spent = milliseconds(function)
            if number:
                times[name].append(spent)
    return {name: statistics.median(values) for name, values in times.items()}


def numpy_view(clip: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One view `(3, 64, 25, 2)` of one recording `(3, n, 25, 2)`, step by step as the official loader makes it."""
    length = clip.shape[1]
    share = generator.random() * 0.9 + 0.1
    kept = min(max(int(length * share), FRAMES), length)
    start = generator.integers(0, length - kept + 1)
    crop = clip[:, start : start + kept]
    places = np.maximum((np.arange(FRAMES) + 0.5) * kept / FRAMES - 0.5, 0)
    first = places.astype(int)
    second = np.minimum(first + 1, kept - 1)
    weight = (places - first)[None, :, None, None]
    view = crop[:, first] * (1 - weight) + crop[:, second] * weight
    if generator.random() < 0.5:
        matrix = generator.uniform(-1, 1, (3, 3))
        np.fill_diagonal(matrix, 1)
        return np.dot(view.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2).astype(np.float32)
    joints = generator.choice(JOINTS, 15, replace=False)
    view = view.copy()
    if generator.random() < 0.5:
        view[:, :, joints] = 0
    else:
        moved = np.dot(view[:, :, joints].transpose(1, 2, 3, 0), generator.uniform(-1, 1, (3, 3)))
        view[:, :, joints] = moved.transpose(3, 0, 1, 2)
    return view.astype(np.float32)


def numpy_batch(clips: list[np.ndarray], generator: np.random.Generator) -> dict[str, Tensor]:
    """Two views of each recording, one by one, as the arguments of the model."""
    views = [[torch.from_numpy(numpy_view(clip, generator)) for clip in clips] for _ in range(2)]
    first, second = (torch.stack(each).permute(0, 4, 2, 3, 1).contiguous() for each in views)
    return {"skeletons": first, "key_skeletons": second}


def measure_views(batch_size: int, rounds: int, full: bool, device: torch.device) -> dict[str, float]:
    """Views alone, and with the training step."""
    config = SkeletonContrastConfig(queue_size=4 * batch_size, normalization="none", **({} if full else NARROW))
    collate = SkeletonContrastCollator(config)
    torch.manual_seed(0)
    model = SkeletonContrastForPreTraining(config).train().to(device)
    lengths = np.random.default_rng(0).integers(60, 301, batch_size)
    recordings = [torch.randn(BODIES, int(length), JOINTS, 3) for length in lengths]
    items = [{"skeletons": recording, "seed": seed} for seed, recording in enumerate(recordings)]
    arrays = [np.ascontiguousarray(recording.permute(3, 1, 2, 0).numpy()) for recording in recordings]
    generator = np.random.default_rng(1)

    def step(batch: Mapping[str, Tensor]) -> None:
        model.zero_grad()
        model(**{name: value.to(device) for name, value in batch.items()}).loss.backward()

    return compared(
        {
            "views, batch": lambda: collate(items),
            "views, NumPy one by one": lambda: numpy_batch(arrays, generator),
            "step, batch": lambda: step(collate(items)),
            "step, NumPy one by one": lambda: step(numpy_batch(arrays, generator)),
        },
        rounds,
    )


def measure_bigru(batch_size: int, rounds: int, full: bool, device: torch.device) -> tuple[dict[str, float], float]:
    """The whole clip against a frame at a time; also the largest difference of their outputs."""
    torch.manual_seed(0)
    size, layers = (1024, 3) if full else (128, 2)
    grus = TwoGrus(JOINTS * 3 * BODIES, size, layers).to(device)
    loop = nn.GRU(JOINTS * 3 * BODIES, size, layers, batch_first=True, bidirectional=True).to(device)
    loop.load_state_dict(grus.state_dict())
    frames = torch.randn(batch_size, FRAMES, JOINTS * 3 * BODIES, device=device)

    def stepped() -> Tensor:
        hidden, outputs = None, []
        for frame in frames.split(1, dim=1):
            output, hidden = loop(frame, hidden)
            outputs.append(output)
        return torch.cat(outputs, dim=1)

    with torch.no_grad():
        difference = (grus(frames)[0] - stepped()).abs().max().item()
        forward = compared({"BiGRU, clip": lambda: grus(frames), "BiGRU, frame by frame": stepped}, rounds)
    trained = compared(
        {
            "BiGRU with gradient, clip": lambda: grus(frames)[0].sum().backward(),
            "BiGRU with gradient, frame by frame": lambda: stepped().sum().backward(),
        },
        rounds,
    )
    return {**forward, **trained}, difference


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=64, help="recordings in a batch")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case")
    parser.add_argument("--full", action="store_true", help="the paper's encoders")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the networks")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    device = torch.device(options.device)
    times = measure_views(options.batch_size, options.rounds, options.full, device)
    more, difference = measure_bigru(options.batch_size, options.rounds, options.full, device)
    times |= more
    ratios = {
        "views": times["views, NumPy one by one"] / times["views, batch"],
        "step": times["step, NumPy one by one"] / times["step, batch"],
        "BiGRU": times["BiGRU, frame by frame"] / times["BiGRU, clip"],
        "BiGRU with gradient": times["BiGRU with gradient, frame by frame"] / times["BiGRU with gradient, clip"],
    }
    for name, value in times.items():
        print(f"{name:38} {value:10.2f} ms")
    for name, value in ratios.items():
        print(f"{name:38} {value:10.2f} x")
    print(f"{'largest difference of BiGRU':38} {difference:10.1e}")
    if options.json is not None:
        numbers = {"times": times, "ratios": ratios, "difference": difference, "batch_size": options.batch_size}
        options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
