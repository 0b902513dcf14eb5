"""Approximate search of large collections with FAISS, which is imported only if it is asked for.

The exact matrix product of `Embeddings.search` needs no building and takes 11 ms for 100,000 windows of width 256 and
85 ms for 500,000 on one core; FAISS takes 0.2 and 1 ms after 8 and 50 seconds of building
(`scripts/benchmark_retrieval.py --faiss`). It pays where a large collection is searched many times.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tubelets.data.atomic import write_atomically

# Windows per list that the lists are trained on, and lists that a query visits of each hundred; ours.
TRAINED, VISITED = 40, 2
LEAST_VISITED = 8
WIDEST = 1000
"""Windows that are compared exactly afterwards, at least."""


def import_faiss() -> Any:
    """FAISS.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("an approximate search needs FAISS: pip install 'tubelets[search]'") from error
    return faiss


def build_index(features: Tensor, seed: int = 0) -> Any:
    """An index of inverted lists, about 4 sqrt(N) of them, for cosine similarity.

    Args:
        features: float32 `(N, D)`.
        seed: of the windows that the lists are trained on.

    Returns:
        `faiss.IndexIVFFlat`.

    Raises:
        ImportError: if FAISS is not installed.
    """
    faiss = import_faiss()
    vectors = F.normalize(features.float(), dim=1).contiguous()
    count, width = vectors.shape
    lists = max(1, min(round(4 * count**0.5), count // TRAINED))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: TRAINED * lists]
    index.train(vectors[chosen].numpy())
    index.add(vectors.numpy())
    index.nprobe = max(LEAST_VISITED, lists * VISITED // 100)
    return index


def open_index(features: Tensor, path: str | Path) -> Any:
    """The index beside a collection, built and written if it is missing, older than it or of another size.

    Args:
        features: float32 `(N, D)`, of the collection.
        path: file of the collection.

    Returns:
        `faiss.IndexIVFFlat`, as `build_index` gives it.

    Raises:
        ImportError: if FAISS is not installed.
    """
    faiss, path = import_faiss(), Path(path)
    file = path.with_name(f"{path.name}.faiss")
    if file.is_file() and file.stat().st_mtime >= path.stat().st_mtime:
        index = faiss.read_index(str(file))
        if (index.ntotal, index.d) == tuple(features.shape):
            return index
    index = build_index(features)
    write_atomically(file, lambda target: faiss.write_index(index, str(target)))
    return index


def candidates(index: Any, queries: Tensor, k: int) -> Tensor:
    """Windows that can be among the best, for `Embeddings.search` to compare exactly.

    Args:
        index: from `open_index`.
        queries: float `(Q, D)`.
        k: videos that are wanted; each may have several windows.

    Returns:
        int64 `(P,)`, ascending.
    """
    count = min(index.ntotal, max(WIDEST, 50 * k))
    _, places = index.search(F.normalize(queries.float(), dim=1).contiguous().numpy(), count)
    found = torch.from_numpy(places).flatten().unique()
    return found[found >= 0]
