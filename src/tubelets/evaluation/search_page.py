"""Search as a page of this machine (Gradio), and the sentences that fit a video."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from tubelets.evaluation.embedding import Embeddings
from tubelets.evaluation.faiss_index import candidates, open_index
from tubelets.evaluation.joint_space import load_joint_space
from tubelets.models.common.video_text import embed_texts
from tubelets.visualization.search_page import result_list

MOST_RESULTS = 100


def nearest_sentences(video: Tensor, text: Tensor, sentences: Sequence[str], k: int) -> list[dict[str, Any]]:
    """The sentences that fit a video best, by cosine similarity with its best window.

    Args:
        video: float `(windows, D)`, embeddings of the windows of one video.
        text: float `(T, D)`, embeddings of the sentences.
        sentences: the T sentences.
        k: sentences to return.

    Returns:
        At most `k` mappings with `sentence` and `score`, the best first.

    Raises:
        ValueError: if shapes do not fit, or `k` is below 1.

    Example:
        >>> import torch
        >>> found = nearest_sentences(torch.tensor([[1.0, 0.0]]), torch.eye(2), ["left", "right"], k=1)
        >>> found[0]["sentence"]
        'left'
    """
    if video.ndim != 2 or not len(video) or text.shape != (len(sentences), video.shape[1]) or k < 1:
        raise ValueError(
            f"expected windows (W, D), {len(sentences)} texts of the same width and k of at least 1, got "
            f"{tuple(video.shape)}, {tuple(text.shape)} and {k}"
        )
    scores = (F.normalize(text.float(), dim=1) @ F.normalize(video.float(), dim=1).T).amax(dim=1)
    order = scores.argsort(descending=True, stable=True)[:k].tolist()
    return [{"sentence": sentences[place], "score": float(scores[place])} for place in order]


def build_page(bank: Embeddings, checkpoint: str, k: int = 10, approximate: bool = False) -> Any:
    """A Gradio page with a field for a sentence and the clips that fit it.

    Args:
        bank: the collection.
        checkpoint: folder or Hub id of its model, which reads sentences.
        k: clips that are shown at first.
        approximate: search with FAISS, see `faiss_index`; the collection must be in a file.

    Returns:
        `gradio.Blocks`; its API has the endpoint `/search`.

    Raises:
        ImportError: if Gradio is not installed.
        TypeError: if the model reads no sentences.
    """
    try:
        import gradio
    except ImportError as error:
        raise ImportError("the page needs Gradio: pip install 'tubelets[search]'") from error
    model, processor = load_joint_space(checkpoint)
    index = open_index(bank.features, bank.path) if approximate and bank.path is not None else None

    def search(sentence: str, count: float) -> str:
        if not sentence.strip():
            return ""
        queries = embed_texts(model, processor, [sentence])
        among = None if index is None else candidates(index, queries, int(count))
        hits = bank.search(queries, int(count), among=among)
        return result_list(hits, bank.strips(hits))

    with gradio.Blocks(title="tubelets search", analytics_enabled=False) as page:
        sentence = gradio.Textbox(label=f"{len(bank.rows)} windows; what do you look for?", autofocus=True)
        count = gradio.Slider(1, MOST_RESULTS, value=min(k, MOST_RESULTS), step=1, label="clips")
        found = gradio.HTML()
        sentence.submit(search, [sentence, count], found, api_name="search")
    return page


def serve(bank: Embeddings, checkpoint: str, k: int = 10, port: int | None = None, approximate: bool = False) -> None:
    """Show the page on this machine until it is interrupted; no other machine can reach it.

    Args:
        bank: the collection.
        checkpoint: folder or Hub id of its model.
        k: clips that are shown at first.
        port: of the page; None takes the first free one from 7860 on.
        approximate: search with FAISS.

    Raises:
        ImportError: if Gradio is not installed.
        OSError: if the port is taken.
    """
    build_page(bank, checkpoint, k, approximate).launch(server_name="127.0.0.1", server_port=port, share=False)
