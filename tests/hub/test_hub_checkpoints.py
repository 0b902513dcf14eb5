import filecmp
import runpy
from pathlib import Path

import pytest
import torch
from huggingface_hub import metadata_load
from transformers import AutoConfig, AutoFeatureExtractor, AutoProcessor, AutoVideoProcessor

import tubelets
from tubelets.hub.author_cards import author_checkpoints, citation_of
from tubelets.models.common.author_checkpoints import class_names

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = author_checkpoints()
# Millions of parameters, sigma.md section 10 and smile.md section 11.
PARAMETERS = {"sigma-dino-vit-base": 96.22, "sigma-mlp-vit-base": 97.77, "sigma-dino-vit-small": 26.19, "smile": 93.92}
# tubelet_contrast.md, section 3, twice with the heads of section 4.1; TCLR's last stage is a full convolution.
HEAD = 512 * 512 + 512 + 512 * 128 + 128
# skeleton_contrast.md, sections 3.1 and 3.2, twice with the heads of section 3.5.
SKELETON_HEADS = sum(width * width + width + width * 128 + 128 for width in (2048, 256))
PARAMETERS["skeleton-contrast"] = 2 * (44_998_656 + 3_454_090 + SKELETON_HEADS) / 1e6
PARAMETERS |= {
    "tubelet-contrast-r2plus1d": 2 * (31_300_125 + HEAD) / 1e6,
    "tubelet-contrast-r3d": 2 * (33_166_272 + HEAD) / 1e6,
    "tubelet-contrast-i3d": 2 * (12_287_264 + 1024 * 1024 + 1024 + 1024 * 128 + 128) / 1e6,
    "tclr": 31_300_125 / 1e6 + (27 * 256 * 512 - 921 * (9 * 256 + 3 * 512 + 2)) / 1e6,
    **dict.fromkeys(
        ("selavi", "moco", "videomoco", "pretext", "avid", "gdt", "rspnet", "ctp", "supervised"), 31_300_125 / 1e6
    ),
}
# structured_noise_masking.md, section 8: blocks of width w hold 12 w^2 + 13 w values.
BLOCK, DECODER_BLOCK = (12 * width**2 + 13 * width for width in (768, 512))
AUDIO_ENDS = (256 + 4) * 768 + (768 + 4 + 256) * 512 + 256
PARAMETERS |= {
    "audiomae": (12 * BLOCK + 16 * (DECODER_BLOCK + 16 + 3 * 384 + 385 * 16) + AUDIO_ENDS) / 1e6,
    "maskspec": (12 * BLOCK + 8 * DECODER_BLOCK + AUDIO_ENDS) / 1e6,
    # The shared block has norms of three kinds, and so has what follows it.
    "cav-mae": (23 * BLOCK + 14 * 768 + 8 * DECODER_BLOCK + 1028 * 768 + (768 + 6 + 1024) * 512 + 1024) / 1e6,
}
CLASSIFIERS = {("base", "k400"): 86.53, ("small", "k400"): 22.03, ("base", "ssv2"): 86.36, ("small", "ssv2"): 21.95}


def test_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "scripts/make_hub_configs.py"))["write_all"](tmp_path)
    for folder in ("hub_configs", "model_cards"):
        fresh = {path.relative_to(tmp_path) for path in (tmp_path / folder).rglob("*") if path.is_file()}
        committed = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        assert committed == fresh
        _, differing, missing = filecmp.cmpfiles(ROOT, tmp_path, map(str, fresh), shallow=False)
        assert not differing
        assert not missing


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_every_folder_loads_and_builds(name: str) -> None:
    folder, checkpoint = ROOT / "hub_configs" / name, CHECKPOINTS[name]
    config = AutoConfig.from_pretrained(folder)
    if "input_values" in config.input_specs:
        processor = AutoProcessor.from_pretrained(folder)
        extractor = getattr(processor, "feature_extractor", processor)
        assert (extractor.max_length, extractor.mean) == (config.max_length, config.spectrogram_mean)
        processor = getattr(processor, "video_processor", None)
    elif "skeletons" in config.input_specs:
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        assert (extractor.layout, extractor.num_frames) == (config.layout, config.num_frames)
        processor = None
    else:
        processor = AutoVideoProcessor.from_pretrained(folder)
    mean = (0.0, 0.0, 0.0) if name.startswith("tclr") else (0.485, 0.456, 0.406)
    small = any(part in name for part in ("r2plus1d", "r3d"))
    if processor is not None:
        assert tuple(processor.image_mean) == tuple(config.image_mean) == mean
        assert processor.crop_size["height"] == config.image_size == (112 if small else 224)
    classifier = checkpoint.finetuning_data is not None
    with torch.device("meta"):
        model = getattr(tubelets, config.architectures[0])(config)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    expected = (
        CLASSIFIERS["small" if "small" in name else "base", checkpoint.finetuning_data]
        if classifier
        else next(millions for prefix, millions in PARAMETERS.items() if name.startswith(prefix))
    )
    assert millions == pytest.approx(expected, abs=0.01)
    assert type(model).__name__ == config.architectures[0]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_cards_state_published_numbers_with_their_source(name: str) -> None:
    checkpoint, path = CHECKPOINTS[name], ROOT / "model_cards" / f"{name}.md"
    metadata, text = metadata_load(path), path.read_text(encoding="utf-8")
    assert metadata["library_name"] == "tubelets"
    for paper in (checkpoint.paper, *checkpoint.further_papers):
        assert f"arxiv:{paper.arxiv}" in metadata["tags"]
        assert paper.reference in text.split("## Citation")[1]
    assert f"`{checkpoint.source.split('`')[1]}`" in text
    assert "not the weights" in text.split("## Use")[0].replace("\n", " ")
    for task, value in checkpoint.after_finetuning.items():
        assert f"| {task} | {value} |" in text
        assert f"{checkpoint.after_finetuning_source}; not measured by this package" in text
    if checkpoint.finetuning_data is None:
        assert "model-index" not in metadata
        return
    result = metadata["model-index"][0]["results"][0]
    assert result["metrics"][0]["value"] == checkpoint.top1
    assert result["source"] == {"name": "published by the authors", "url": checkpoint.paper.url}
    assert f"{checkpoint.top1} %" in text
    assert metadata["base_model"] == checkpoint.pretrained_name


def test_methods_that_severe_compared_are_cited_before_it() -> None:
    compared = [checkpoint for checkpoint in CHECKPOINTS.values() if checkpoint.further_papers]
    assert len({checkpoint.paper.arxiv for checkpoint in compared}) == len(compared) == 10
    assert {paper.arxiv for checkpoint in compared for paper in checkpoint.further_papers} == {"2203.14221"}
    assert CHECKPOINTS["moco-r2plus1d-18-k400"].paper.arxiv == "1911.05722"
    assert "Closer Look at Spatiotemporal Convolutions" in citation_of("resnet3d")


def test_only_the_official_base_run_on_ssv2_is_sharper() -> None:
    sigma = {name: checkpoint.config() for name, checkpoint in CHECKPOINTS.items() if name.startswith("sigma")}
    sharp = {name for name, config in sigma.items() if config.sinkhorn_epsilon == 0.03}
    assert sharp == {name for name in sigma if "vit-base-ssv2" in name}


@pytest.mark.parametrize(("dataset", "count"), [("k400", 400), ("ssv2", 174)])
def test_class_names_are_in_the_label_order(dataset: str, count: int) -> None:
    names = class_names(dataset)
    assert len(set(names)) == count
    assert names == sorted(names)


def test_unknown_class_names() -> None:
    with pytest.raises(ValueError, match="ucf101"):
        class_names("ucf101")
