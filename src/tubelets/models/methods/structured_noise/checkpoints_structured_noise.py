"""Base networks of structured-noise masking that their authors published; the method itself has published none.

Numbers are those of structured_noise_masking.md, section 8. The networks were trained with random masks.
"""

import functools
from typing import Any

from tubelets.models.common.author_checkpoints import AuthorCheckpoint, Paper
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio import StructuredNoiseAudioConfig
from tubelets.models.methods.structured_noise.configuration_structured_noise_audio_video import (
    StructuredNoiseAudioVideoConfig,
)
from tubelets.models.methods.structured_noise.conversion_structured_noise import MASKSPEC

PAPER = Paper(
    "2503.16311",
    "Aritra Bhowmik, Fida Mohammad Thoker, Carlos Hinojosa, Bernard Ghanem, Cees Snoek",
    "Structured-Noise Masked Modeling for Video, Audio and Beyond",
    "2025",
)
AUDIOMAE = Paper(
    "2207.06405",
    "Po-Yao Huang et al.",
    "Masked Autoencoders that Listen",
    "NeurIPS 2022",
)
MASKSPEC_PAPER = Paper(
    "2204.12768",
    "Dading Chong et al.",
    "Masked Spectrogram Prediction for Self-Supervised Audio Pre-Training",
    "2022",
)
CAV_MAE = Paper(
    "2210.07839",
    "Yuan Gong et al.",
    "Contrastive Audio-Visual Masked Autoencoder",
    "ICLR 2023",
)


def _audio_config(**fields: Any) -> StructuredNoiseAudioConfig:
    return StructuredNoiseAudioConfig(
        mask_type="random", architectures=["StructuredNoiseAudioForPreTraining"], **fields
    )


def _audio_video_config() -> StructuredNoiseAudioVideoConfig:
    architectures = ["StructuredNoiseAudioVideoForPreTraining"]
    return StructuredNoiseAudioVideoConfig(mask_type="random", video_mask_type="random", architectures=architectures)


def _checkpoint(name: str, paper: Paper, repository: str, objective: str, **fields: Any) -> AuthorCheckpoint:
    return AuthorCheckpoint(
        name=name,
        paper=paper,
        source=f"linked from the authors' repository, [`{repository}`](https://github.com/{repository})",
        converter="tubelets.models.methods.structured_noise.conversion_structured_noise",
        pretraining_data="audioset",
        objective=objective,
        after_finetuning_source=f"[paper]({paper.url})",
        **fields,
    )


AUDIO = [
    _checkpoint(
        "audiomae-vit-base-audioset",
        AUDIOMAE,
        "facebookresearch/AudioMAE",
        "masked-audio-modelling",
        make_config=_audio_config,
        not_in_file="sampling rate nor statistics of spectrograms",
        training=(
            "AudioMAE by its authors on AudioSet-2M: a ViT encodes a fifth of a spectrogram's patches, a decoder with "
            "shifted windows predicts the others, standardised one by one."
        ),
        settings={"mask in pretraining": "random, 0.8", "epochs": "33, of them 3 warm-up", "batch": 512},
        after_finetuning={"AudioSet-2M, mAP": 47.3, "AudioSet-20K, mAP": 37.0, "ESC-50, top-1": 94.1},
    ),
    _checkpoint(
        "maskspec-vit-base-audioset",
        MASKSPEC_PAPER,
        "WangHelin1997/MaskSpec",
        "masked-audio-modelling",
        make_config=functools.partial(_audio_config, max_length=992, decoder_type="plain", **MASKSPEC),
        not_in_file="sampling rate nor order of tokens",
        training=(
            "MaskSpec by its authors on AudioSet: a ViT encodes a quarter of a spectrogram's patches, a plain decoder "
            "predicts the others. Its front end also standardises each band with statistics of a file of the authors "
            "that is not part of the weights; the feature extractor here does not."
        ),
        settings={"mask in pretraining": "random, 0.75"},
        after_finetuning={
            "AudioSet, mAP": 47.1,
            "ESC-50 after AudioSet, top-1": 98.2,
            "Speech Commands v2, top-1": 97.6,
            "DCASE2019, top-1": 82.3,
            "OpenMIC, mAP": 85.4,
        },
    ),
]

AUDIO_VIDEO = [
    _checkpoint(
        "cav-mae-vit-base-audioset",
        CAV_MAE,
        "YuanGongND/cav-mae",
        "masked-audio-visual-modelling",
        make_config=_audio_video_config,
        not_in_file="statistics of spectrograms nor weights of the losses",
        training=(
            "CAV-MAE by its authors on AudioSet-2M, from an image MAE: separate and then shared blocks encode a "
            "quarter of the patches of a sound and of a frame; the others are predicted, and the two are matched."
        ),
        settings={"masks in pretraining": "random, 0.75 of each", "epochs": 25, "batch": 256},
        after_finetuning={
            "AudioSet-2M, sound and frames, mAP": 51.1,
            "AudioSet-20K, sound and frames, mAP": 42.2,
            "AudioSet-20K, sound, mAP": 38.2,
            "AudioSet-20K, frames, mAP": 20.0,
        },
    )
]
