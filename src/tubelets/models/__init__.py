"""Models: each folder of `backbones` and `methods` declares its model types, see `tubelets.models.common.entries`."""
