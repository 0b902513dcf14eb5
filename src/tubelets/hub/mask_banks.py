"""Publishing banks of masks as data sets of the Hub."""

from pathlib import Path

from huggingface_hub import HfApi

from tubelets.masking import NoiseMaskGenerator
from tubelets.models.common.mask_banks import FILE

CARD = """---
license: apache-2.0
tags: [tubelets, masked-video-modelling]
---

# A bank of {kind} noise

Masks for masked video or audio modelling are cropped from it by
`tubelets.models.common.mask_banks.load_mask_bank("{repository}", grid, mask_ratio)`.
Made by `tubelets masks {kind}` with seed {seed}: {bank_size} patterns.
"""


def publish_bank(file: Path, generator: NoiseMaskGenerator, repository: str, private: bool = False) -> str:
    """Upload a bank and its card in one commit.

    Args:
        file: as `save_mask_bank` wrote it; the card is written beside it.
        generator: the generator that was saved.
        repository: id of a data set, created if it does not exist.
        private: create a private one.

    Returns:
        The address of the commit.

    Raises:
        OSError: if the Hub cannot be reached or refuses.
    """
    card = CARD.format(kind=generator.kind, repository=repository, seed=generator.seed, bank_size=generator.bank_size)
    (file.parent / "README.md").write_text(card, encoding="utf-8")
    api = HfApi()
    api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
    commit = api.upload_folder(
        folder_path=file.parent, repo_id=repository, repo_type="dataset", allow_patterns=[FILE, "README.md"]
    )
    return commit.commit_url
