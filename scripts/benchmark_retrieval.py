"""Time the ranks of retrieval against the usual loop, and measure the memory of a large collection.

The loop sorts the scores of one query after the other and looks up the correct item. Rounds alternate, so that load on
the machine affects both equally; times are medians. Then queries are ranked among many items from their embeddings,
in a process of its own whose largest resident memory is compared with that before. With --faiss, single queries are
searched in clustered items by the exact product and by FAISS.

Examples:
  python scripts/benchmark_retrieval.py
  python scripts/benchmark_retrieval.py --items 1000000 --json retrieval.json
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tubelets.tasks.ranks import answer_ranks
from tubelets.tasks.similarities import Similarities


def argsort_loop(scores: np.ndarray) -> np.ndarray:
    """Rank of item i for query i, by sorting the scores of each query.

    Args:
        scores: `(N, N)`.

    Returns:
        int64 `(N,)`.
    """
    ranks = np.zeros(len(scores), dtype=np.int64)
    for number, row in enumerate(scores):
        order = np.argsort(row)[::-1]
        ranks[number] = np.where(order == number)[0][0]
    return ranks


def measure_ranks(size: int, rounds: int, seed: int = 0) -> dict[str, float]:
    """Median milliseconds of both, and how many times as long the loop takes.

    Args:
        size: queries, and as many items.
        rounds: timed rounds, after one warm-up.
        seed: of the scores.
    """
    scores = torch.randn(size, size, generator=torch.Generator().manual_seed(seed))
    pairs = torch.arange(size)[:, None].expand(-1, 2)
    parts: dict[str, Callable[[], object]] = {
        "ours": lambda: answer_ranks(scores, pairs),
        "loop": lambda: argsort_loop(scores.numpy()),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    # The faster one is repeated, so that both are timed over similar stretches, with warm caches.
    repeats = {"ours": 25, "loop": 1}
    found: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                found[name] = np.asarray(part())
            if number:
                times[name].append(1000 * (time.perf_counter() - start) / repeats[name])
    if not np.array_equal(found["ours"], found["loop"]):
        raise RuntimeError("the two ways gave different ranks")
    ratios = [slow / fast for slow, fast in zip(times["loop"], times["ours"], strict=True)]
    return {name: statistics.median(values) for name, values in times.items()} | {"ratio": statistics.median(ratios)}


def measure_memory(items: int, queries: int, width: int, temperature: float | None) -> dict[str, float]:
    """Seconds, and megabytes beside the embeddings, of ranking queries among many items; in this process.

    Args:
        items: items in the collection.
        queries: queries, whose correct items are the first ones.
        width: of the embeddings.
        temperature: of a dual softmax; None leaves it out.
    """
    generator = torch.Generator().manual_seed(0)
    bank = F.normalize(torch.randn(items, width, generator=generator), dim=1)
    asked = F.normalize(bank[:queries] + 0.1 * torch.randn(queries, width, generator=generator), dim=1)
    pairs = torch.arange(queries)[:, None].expand(-1, 2)
    _ = Similarities(asked[:1], bank[:2]).ranks(pairs[:1])  # loads what the first call loads
    before, start = _resident(), time.perf_counter()
    Similarities(asked, bank, temperature).ranks(pairs)
    return {"seconds": time.perf_counter() - start, "megabytes": max(0.0, _resident() - before)}


def measure_search(items: int, width: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of one query by each way, seconds of building, share of the exact top 10 that FAISS finds.

    Args:
        items: items in the collection, around 2,000 centres.
        width: of the embeddings.
        rounds: timed queries.
    """
    from tubelets.evaluation.faiss_index import build_index

    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(2000, width, generator=generator), dim=1)
    chosen = centres[torch.randint(2000, (items,), generator=generator)]
    bank = F.normalize(chosen + 0.05 * torch.randn(items, width, generator=generator), dim=1)
    asked = bank[torch.randint(items, (rounds + 1,), generator=generator)]
    asked = F.normalize(asked + 0.03 * torch.randn(rounds + 1, width, generator=generator), dim=1)
    start = time.perf_counter()
    index = build_index(bank)
    built = time.perf_counter() - start
    times: dict[str, list[float]] = {"exact": [], "faiss": []}
    found = 0
    for number, query in enumerate(asked):
        start = time.perf_counter()
        exact = (bank @ query).topk(10).indices
        middle = time.perf_counter()
        _, places = index.search(query[None].numpy(), 10)
        if number:
            times["exact"].append(1000 * (middle - start))
            times["faiss"].append(1000 * (time.perf_counter() - middle))
            found += len(set(exact.tolist()) & set(places[0].tolist()))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians | {"build_seconds": built, "recall": found / (10 * rounds)}


def _resident() -> float:
    """Largest resident memory of this process so far, in megabytes (Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="queries and items of the timed matrix (default: 1000)")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default: 15)")
    parser.add_argument("--items", type=int, default=100_000, help="items of the large collection (default: 100000)")
    parser.add_argument("--queries", type=int, default=1000, help="queries of it (default: 1000)")
    parser.add_argument("--width", type=int, default=256, help="width of its embeddings (default: 256)")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads (default: 1)")
    parser.add_argument("--faiss", action="store_true", help="also compare an exact search with FAISS")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    times = measure_ranks(options.size, options.rounds)
    print(
        f"{options.size} x {options.size} scores: ranks in {times['ours']:.2f} ms, loop {times['loop']:.1f} ms, "
        f"{times['ratio']:.0f} x as long"
    )
    found = {}
    for name, temperature in (("similarities", None), ("dual softmax", 0.01)):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            given = (options.items, options.queries, options.width, temperature)
            found[name] = pool.apply(measure_memory, given)
        print(
            f"{options.queries} queries among {options.items} items, {name}: {found[name]['seconds']:.1f} s, "
            f"{found[name]['megabytes']:.0f} MB beside the embeddings"
        )
    content = {"threads": options.threads, "ranks": times, "memory": found, "settings": vars(options)}
    if options.faiss:
        search = content["search"] = measure_search(options.items, options.width, options.rounds)
        print(
            f"one query among {options.items} items: exact {search['exact']:.2f} ms, FAISS {search['faiss']:.2f} ms "
            f"after {search['build_seconds']:.1f} s of building, which finds {search['recall']:.1%} of the ten best"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
