"""Models: one folder per method, registered with the Auto classes in `tubelets.models.common.auto`."""
