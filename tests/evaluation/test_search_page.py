"""The page of a search over loopback HTTP, as a browser's script asks it; no browser is started."""

from pathlib import Path

import pytest
import torch
from transformers import BertTokenizerFast

from tiny_models import RESNET, WORDS
from tubelets import VideoTextDualEncoderConfig, VideoTextDualEncoderModel
from tubelets.evaluation.embedding import Embeddings
from tubelets.evaluation.search_page import build_page, nearest_sentences
from tubelets.models.heads.video_text.processing_video_text import VideoTextProcessor, frame_processor

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "bird", "cat"]


def write_model(folder: Path) -> VideoTextDualEncoderModel:
    torch.manual_seed(0)
    clips = {**RESNET, "model_type": "resnet3d", "image_size": 16, "num_frames": 4}
    config = VideoTextDualEncoderConfig(video_tower=clips, text_tower=WORDS, projection_dim=8, max_length=6)
    model = VideoTextDualEncoderModel(config).eval()
    model.save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(VOCABULARY)})
    VideoTextProcessor(frame_processor(config), tokenizer, max_length=6).save_pretrained(folder)
    return model


def test_the_page_answers_a_sentence_with_the_clips_that_fit_it(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    from gradio_client import Client

    model = write_model(tmp_path / "model")
    sentence = model.get_text_features(torch.tensor([[2, 5, 6, 3, 0, 0]]), torch.tensor([[1, 1, 1, 1, 0, 0]])).detach()
    rows = [{"clip_id": f"{name}.mp4", "start": None, "end": None} for name in ("far", "<near>")]
    page = build_page(Embeddings(torch.cat([-sentence, sentence]), rows, {}), str(tmp_path / "model"))
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    try:
        found = Client(address, verbose=False).predict("a bird", 2, api_name="/search")
    finally:
        page.close()
    assert found.index("&lt;near&gt;.mp4") < found.index("far.mp4")
    assert "+1.000" in found
    assert "-1.000" in found


def test_sentences_are_ranked_by_the_best_window_of_a_video() -> None:
    windows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    texts = torch.tensor([[0.0, 5.0], [1.0, 1.0], [-1.0, 0.0]])
    found = nearest_sentences(windows, texts, ["up", "both", "left"], k=2)
    assert [each["sentence"] for each in found] == ["up", "both"]
    assert found[0]["score"] == pytest.approx(1)
    with pytest.raises(ValueError, match="3 texts of the same width"):
        nearest_sentences(windows, texts[:, :1], ["up", "both", "left"], k=2)


def test_faiss_finds_what_the_exact_search_finds(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    from tubelets.evaluation.faiss_index import candidates, open_index

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(60, 16, generator=generator)
    features = centres[torch.randint(60, (3000,), generator=generator)] + 0.1 * torch.randn(
        3000, 16, generator=generator
    )
    rows = [{"clip_id": str(number // 2), "start": None, "end": None} for number in range(3000)]
    bank = Embeddings(features, rows, {})
    (tmp_path / "bank.parquet").write_bytes(b"")
    for _ in range(2):  # built, then read
        index = open_index(features, tmp_path / "bank.parquet")
        same = 0
        for query in features[:20]:
            exact = [hit["clip_id"] for hit in bank.search(query[None], 10)]
            found = bank.search(query[None], 10, among=candidates(index, query[None], 10))
            assert found[0]["clip_id"] == exact[0]
            assert all(rows[hit["place"]]["clip_id"] == hit["clip_id"] for hit in found)
            same += len({hit["clip_id"] for hit in found} & set(exact))
        assert same > 0.9 * 200
    assert (tmp_path / "bank.parquet.faiss").is_file()
    assert open_index(features[:100], tmp_path / "bank.parquet").ntotal == 100


def test_windows_to_compare_can_be_given() -> None:
    bank = Embeddings(torch.eye(3), [{"clip_id": name} for name in "abc"], {})
    found = bank.search(torch.tensor([[3.0, 2.0, 1.0]]), 2, among=torch.tensor([1, 2]))
    assert [(hit["clip_id"], hit["place"]) for hit in found] == [("b", 1), ("c", 2)]
