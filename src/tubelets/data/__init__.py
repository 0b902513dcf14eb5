"""Video data: shards, streaming, decoding, clip sampling and transforms.

Import from the modules: this file imports nothing, so that reading a clip does not load the streaming library.
"""
