"""Author checkpoints that this package can load: the content of their folders and cards on the Hub.

Each method's `checkpoints_<method>.py` lists its own in `CHECKPOINTS`. Numbers are the authors'; this package has not
measured them.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from transformers import PreTrainedConfig

DATASETS = {
    "k400": "Kinetics-400",
    "ssv2": "Something-Something V2",
    "mini_kinetics": "Mini-Kinetics",
    "audioset": "AudioSet",
    "ntu60": "NTU RGB+D 60",
    "ntu120": "NTU RGB+D 120",
}
# Data sets that are on the Hub.
HUB_DATASETS = {
    "k400": "kinetics400",
    "ssv2": "something-something-v2",
    "mini_kinetics": "kinetics400",
    "audioset": "agkphysics/AudioSet",
}

SIZES = {
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "decoder_hidden_size": 384,
             "decoder_num_attention_heads": 6, "decoder_intermediate_size": 1536},
    "small": {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "decoder_hidden_size": 192,
              "decoder_num_attention_heads": 3, "decoder_intermediate_size": 768},
}  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """A paper cited by a card.

    Attributes:
        arxiv: arXiv number.
        authors: separated by commas; "et al." stands for the rest.
        title: without a final full stop.
        venue: conference or journal and year, or the year alone.
    """

    arxiv: str
    authors: str
    title: str
    venue: str

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://arxiv.org/abs/{self.arxiv}"

    @property
    def reference(self) -> str:
        """Authors, title, venue and address."""
        authors = self.authors if self.authors.endswith(".") else f"{self.authors}."
        title = self.title if self.title.endswith("?") else f"{self.title}."
        return f"{authors} {title} {self.venue}. {self.url}"

    @property
    def bibtex(self) -> str:
        """A BibTeX entry.

        Example:
            >>> print(Paper("1911.05722", "Kaiming He, Ross Girshick et al.", "Momentum Contrast", "CVPR 2020").bibtex)
            @misc{he2020momentum,
              title = {Momentum Contrast},
              author = {Kaiming He and Ross Girshick and others},
              year = {2020},
              howpublished = {CVPR 2020},
              eprint = {1911.05722},
              archivePrefix = {arXiv},
            }
        """
        several = self.authors.endswith(" et al.")
        names = [name.strip() for name in self.authors.removesuffix(" et al.").split(",")]
        year = self.venue.split()[-1]
        surname = unicodedata.normalize("NFKD", names[0].split()[-1]).encode("ascii", "ignore").decode().lower()
        word = "".join(filter(str.isalnum, re.split(r"[\s:-]", self.title)[0])).lower()
        fields = {
            "title": self.title,
            "author": " and ".join([*names, *(["others"] if several else [])]),
            "year": year,
            **({"howpublished": self.venue} if self.venue != year else {}),
            "eprint": self.arxiv,
            "archivePrefix": "arXiv",
        }
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@misc{{{surname}{year}{word},\n{lines}}}"


@dataclass(frozen=True)
class AuthorCheckpoint:
    """A checkpoint of the authors, as a configuration of this package.

    Attributes:
        name: name of the checkpoint's folder and card.
        make_config: creates the configuration, with class names for a classifier.
        paper: the method's paper, cited by the card.
        source: where the authors' weights are, as Markdown.
        converter: module with `from_official`.
        not_in_file: settings that cannot be inferred from the weight file, in words.
        pretraining_data: key of `DATASETS`.
        training: description of the pretraining.
        settings: further lines of the card's table.
        stride: distance between the frames of a clip in pretraining, in video frames.
        finetuning_data: key of `DATASETS` for a classifier, None for a pretraining network.
        pretrained_name: name of the pretraining checkpoint that a classifier started from.
        top1: published top-1 accuracy in percent of the classifier, on the validation set of `finetuning_data`.
        views: test protocol of the published number.
        objective: tag of the card.
        after_finetuning: for a network without an accuracy of its own, what was published after the authors fine-tuned
            it: names of tasks to numbers.
        after_finetuning_source: paper and table of those numbers, as Markdown.
        further_papers: other papers cited by the card, such as comparisons of the checkpoint.
        download: address of the weight file, if it can be fetched without a browser: `hf://owner/name/path` for a file
            of the Hub, or `https://...`; None if it is not known.
    """

    name: str
    make_config: Callable[[], PreTrainedConfig]
    paper: Paper
    source: str
    converter: str
    not_in_file: str
    pretraining_data: str
    training: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    stride: int = 4
    finetuning_data: str | None = None
    pretrained_name: str | None = None
    top1: float | None = None
    views: str = ""
    objective: str = "masked-video-modelling"
    after_finetuning: Mapping[str, float] = field(default_factory=dict)
    after_finetuning_source: str = ""
    further_papers: tuple[Paper, ...] = ()
    download: str | None = None

    def config(self) -> Any:
        """The configuration."""
        return self.make_config()


def classifier_fields(dataset: str, architecture: str) -> dict[str, Any]:
    """Fields of the configuration of a classifier on a data set.

    Args:
        dataset: key of `DATASETS`.
        architecture: name of the model class.

    Returns:
        Architecture, pooling and labels.
    """
    names = class_names(dataset)
    return {
        "architectures": [architecture],
        "use_mean_pooling": True,
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": "single_label_classification",
    }


def class_names(dataset: str) -> list[str]:
    """Class names in the order of the labels.

    Args:
        dataset: `k400`, whose names torchvision carries, or `ssv2`.

    Returns:
        400 or 174 names.

    Raises:
        ValueError: if the data set is another one.
    """
    if dataset == "k400":
        from torchvision.models.video import MViT_V1_B_Weights

        return list(MViT_V1_B_Weights.KINETICS400_V1.meta["categories"])
    if dataset == "ssv2":
        labels = resources.files("tubelets.models.common") / "labels" / "something_something_v2.txt"
        return labels.read_text(encoding="utf-8").splitlines()
    raise ValueError(f"no class names are stored for {dataset!r}; choose 'k400' or 'ssv2'")
