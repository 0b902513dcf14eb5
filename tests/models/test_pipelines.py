"""Our models where users of transformers meet them: Auto classes and the pipeline, on an encoded video."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_masked_video_models import CLASSIFIERS, scattered
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

import tubelets
from tubelets.data.modalities.video import BadVideoError, open_video
from videos import make_video

NAMES = ["fall", "jump", "run", "sit", "walk"]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    path.write_bytes(make_video(16, 48, 64))
    return path


def save(name: str, folder: Path) -> None:
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {label: number for number, label in enumerate(NAMES)}}
    model = scattered(name, **labels)
    model.save_pretrained(folder)
    tubelets.video_processor(model.config).save_pretrained(folder)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_pipeline_gives_the_scores_of_the_model(name: str, video: Path, tmp_path: Path) -> None:
    save(name, tmp_path)
    with open_video(video) as reader:
        frames = reader.get_frames(range(reader.num_frames))
    answers = pipeline("video-classification", model=str(tmp_path))(str(video), top_k=5)
    model = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(model).__module__.startswith("tubelets.")
    # The pipeline spreads the frames over the video.
    clip = frames[[int(index * 16 / 4) for index in range(4)]]
    processor = AutoVideoProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        scores = model(**processor(clip, return_tensors="pt")).logits.softmax(-1)[0]
    found = {answer["label"]: answer["score"] for answer in answers}
    assert found == pytest.approx(dict(zip(NAMES, scores.tolist(), strict=True)), abs=2e-3)


def test_pipeline_takes_paths_addresses_and_batches(video: Path, tmp_path: Path) -> None:
    save("sigma-classifier", tmp_path)
    # transformers collates batches only where it is given an image processor.
    processor = AutoVideoProcessor.from_pretrained(tmp_path)
    classify = pipeline("video-classification", model=str(tmp_path), image_processor=processor)
    alone = classify(str(video), top_k=5)
    for answers in classify([str(video), video.as_uri(), str(video)], batch_size=2, top_k=5):
        assert [answer["label"] for answer in answers] == [answer["label"] for answer in alone]
        assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in alone], abs=1e-5)


def test_pipeline_names_a_file_that_is_no_video(video: Path, tmp_path: Path) -> None:
    save("sigma-classifier", tmp_path)
    classify = pipeline("video-classification", model=str(tmp_path))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:200])
    for path, problem in ((cut, "cut.mp4: the file"), (tmp_path / "none.mp4", "none.mp4: file not found")):
        with pytest.raises(BadVideoError, match=problem):
            classify(str(path))


def test_one_import_is_enough_in_a_new_process(video: Path, tmp_path: Path) -> None:
    save("sigma-classifier", tmp_path)
    code = (
        "import sys, tubelets\n"
        "from transformers import pipeline\n"
        "frames = tubelets.read_clip(sys.argv[2], num_frames=4, stride=2)\n"
        "print(sorted(answer['label'] for answer in pipeline('video-classification', model=sys.argv[1])(frames)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(video)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(NAMES)
