"""Suffixes of media files with their dot, as the modalities list them."""

from tubelets.data.modalities.registry import modality_named

VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in modality_named("video").suffixes)
"""Videos, and animated images."""

AUDIO_SUFFIXES = frozenset(f".{suffix}" for suffix in modality_named("audio").suffixes)
"""Sound files."""

SKELETON_SUFFIXES = frozenset(f".{suffix}" for suffix in modality_named("skeleton").suffixes) - {".safetensors"}
"""Recordings of skeletons in folders; weights of models are safetensors too."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""A still image is a video of one frame (smile.md, section 9)."""
