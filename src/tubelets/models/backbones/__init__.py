"""Encoders that return tokens or feature maps, and their own pooling."""
