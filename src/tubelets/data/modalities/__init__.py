"""Modalities: the media of a sample, the inputs of a model, and decoding."""
