"""Crops, flips, augmentations and mixing."""
