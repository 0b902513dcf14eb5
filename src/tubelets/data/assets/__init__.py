"""Footage, cut-outs and sounds from package registries (fetched, verified, cached), and sets of named objects."""
