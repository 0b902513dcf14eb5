"""The Kinetics-400 checkpoints of CNN methods that SEVERE compares; numbers from its tables (severe_benchmark.md)."""

import functools
from typing import Any

from tubelets.models.backbones.resnet3d.configuration_resnet3d import ResNet3DConfig
from tubelets.models.common.author_checkpoints import AuthorCheckpoint, Paper

PAPER = Paper(
    "1711.11248",
    "Du Tran, Heng Wang, Lorenzo Torresani, Jamie Ray, Yann LeCun, Manohar Paluri",
    "A Closer Look at Spatiotemporal Convolutions for Action Recognition",
    "CVPR 2018",
)
SEVERE = Paper(
    "2203.14221",
    "Fida Mohammad Thoker, Hazel Doughty, Piyush Bagad, Cees Snoek",
    "How Severe is Benchmark-Sensitivity in Video Self-Supervised Learning?",
    "ECCV 2022",
)
ARCHIVE = "https://surfdrive.surf.nl/files/index.php/s/Zw9tbuOYAInzVQC"
TORCHVISION = "https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth"
TASKS = (
    "Something-Something V2, top-1",
    "Gym-99, top-1",
    "UCF-101 with 1000 videos, top-1",
    "Gym-99 with 1000 videos, top-1",
    "FX-S1, mean class accuracy",
    "UB-S1, mean class accuracy",
    "UCF-RC, mean error of the count",
    "Charades, mAP",
)
# Short name: (title, file in the archive, what was learned, numbers of `TASKS`).
METHODS: dict[str, tuple[str, str, str, tuple[float, ...]]] = {
    "selavi": ("SeLaVi", "selavi_kinetics.pth", "audio-visual clustering",
               (56.2, 88.9, 69.0, 30.2, 51.3, 80.9, 0.162, 8.4)),
    "moco": ("MoCo", "checkpoint_0199.pth.tar", "contrast of clips of one video against a queue",
             (57.1, 90.7, 60.4, 30.9, 65.0, 84.5, 0.208, 8.3)),
    "videomoco": ("VideoMoCo", "r2plus1D_checkpoint_0199.pth.tar", "contrast with frames dropped by an adversary",
                  (59.0, 90.3, 65.4, 20.6, 57.3, 83.9, 0.185, 10.5)),
    "pretext-contrast": ("Pretext-Contrast", "pcl_r2p1d_res_ssl.pt", "a pretext task and contrast",
                         (56.9, 90.5, 64.6, 27.5, 66.1, 86.1, 0.164, 8.9)),
    "avid-cma": ("AVID-CMA", "avid_cma_ckpt-ep20.pth.tar", "audio-visual contrast; trained again by SEVERE's authors",
                 (52.0, 90.4, 68.2, 33.4, 68.0, 87.3, 0.148, 8.2)),
    "gdt": ("GDT", "gdt_K400.pth", "audio-visual contrast over transformations",
            (58.0, 90.5, 78.4, 45.6, 66.0, 83.4, 0.123, 8.5)),
    "rspnet": ("RSPNet", "snellius_checkpoint_epoch_200.pth.tar",
               "relative speed and contrast; trained again by SEVERE's authors",
               (59.0, 91.1, 74.7, 32.2, 65.4, 83.6, 0.145, 9.0)),
    "tclr": ("TCLR", "rpd18kin400.pth", "contrast between times of a video",
             (59.8, 91.6, 72.6, 26.3, 60.7, 84.7, 0.142, 12.2)),
    "ctp": ("CtP", "snellius_r2p1d18_ctp_k400_epoch_90.pth", "where a pasted patch goes",
            (59.6, 92.0, 61.0, 32.9, 79.1, 88.8, 0.178, 9.6)),
    "supervised": ("supervised", "r2plus1d_18-91a641e6.pth", "the labels; torchvision's weights",
                   (60.8, 92.1, 86.6, 51.3, 79.0, 87.1, 0.132, 23.5)),
}  # fmt: skip
# The methods' own papers.
PAPERS = {
    "selavi": Paper(
        "2006.13662",
        "Yuki M. Asano, Mandela Patrick, Christian Rupprecht, Andrea Vedaldi",
        "Labelling unlabelled videos from scratch with multi-modal self-supervision",
        "NeurIPS 2020",
    ),
    "moco": Paper(
        "1911.05722",
        "Kaiming He, Haoqi Fan, Yuxin Wu, Saining Xie, Ross Girshick",
        "Momentum Contrast for Unsupervised Visual Representation Learning",
        "CVPR 2020",
    ),
    "videomoco": Paper(
        "2103.05905",
        "Tian Pan, Yibing Song, Tianyu Yang, Wenhao Jiang, Wei Liu",
        "VideoMoCo: Contrastive Video Representation Learning with Temporally Adversarial Examples",
        "CVPR 2021",
    ),
    "pretext-contrast": Paper(
        "2010.15464",
        "Li Tao, Xueting Wang, Toshihiko Yamasaki",
        "Pretext-Contrastive Learning: Toward Good Practices in Self-Supervised Video Representation Learning",
        "2020",
    ),
    "avid-cma": Paper(
        "2004.12943",
        "Pedro Morgado, Nuno Vasconcelos, Ishan Misra",
        "Audio-Visual Instance Discrimination with Cross-Modal Agreement",
        "CVPR 2021",
    ),
    "gdt": Paper(
        "2003.04298",
        "Mandela Patrick, Yuki M. Asano, Polina Kuznetsova, Ruth Fong, João F. Henriques, Geoffrey Zweig, "
        "Andrea Vedaldi",
        "Multi-modal Self-Supervision from Generalized Data Transformations",
        "2020",
    ),
    "rspnet": Paper(
        "2011.07949",
        "Peihao Chen, Deng Huang, Dongliang He, Xiang Long, Runhao Zeng, Shilei Wen, Mingkui Tan, Chuang Gan",
        "RSPNet: Relative Speed Perception for Unsupervised Video Representation Learning",
        "AAAI 2021",
    ),
    "tclr": Paper(
        "2101.07974",
        "Ishan Dave, Rohit Gupta, Mamshad Nayeem Rizve, Mubarak Shah",
        "TCLR: Temporal Contrastive Learning for Video Representation",
        "Computer Vision and Image Understanding 2022",
    ),
    "ctp": Paper(
        "2105.02545",
        "Guangting Wang, Yizhou Zhou, Chong Luo, Wenxuan Xie, Wenjun Zeng, Zhiwei Xiong",
        "Unsupervised Visual Representation Learning by Tracking Patches in Video",
        "CVPR 2021",
    ),
    "supervised": PAPER,
}


def _config(method: str) -> ResNet3DConfig:
    # SEVERE evaluates every method with torchvision's epsilon, regardless of its training.
    fields: dict[str, Any] = {"batch_norm_eps": 1e-5, "architectures": ["ResNet3DModel"]}
    if method == "tclr":
        fields |= {"dilated_last_stage": True, "image_mean": (0.0,) * 3, "image_std": (1.0,) * 3}
    return ResNet3DConfig(**fields)


def _checkpoint(method: str) -> AuthorCheckpoint:
    title, file, learned, numbers = METHODS[method]
    return AuthorCheckpoint(
        name=f"{method}-r2plus1d-18-k400",
        make_config=functools.partial(_config, method),
        paper=PAPERS[method],
        further_papers=(SEVERE,),
        source=f"file `{file}` of [SEVERE's archive]({ARCHIVE})",
        download=TORCHVISION if method == "supervised" else None,
        converter="tubelets.models.backbones.resnet3d.conversion_resnet3d",
        not_in_file="the epsilon of batch norm nor the statistics of colours",
        pretraining_data="k400",
        training=f"{title} on Kinetics-400 by its authors: {learned}. SEVERE compares it as R(2+1)D-18.",
        settings={"epsilon of batch norm": "1e-5, as SEVERE evaluates it"},
        stride=2,
        objective="supervised" if method == "supervised" else "self-supervised-learning",
        after_finetuning=dict(zip(TASKS, numbers, strict=True)),
        after_finetuning_source=(
            "SEVERE protocol, [figures of Tubelet-Contrast's project page]"
            "(https://fmthoker.github.io/tubelet-contrastive-learning)"
        ),
    )


CHECKPOINTS = [_checkpoint(method) for method in METHODS]
