"""Video data: shards, streaming, decoding, clip sampling and transforms.

Import from the submodules: this file imports nothing, so that reading a clip does not load `datasets`.
"""
