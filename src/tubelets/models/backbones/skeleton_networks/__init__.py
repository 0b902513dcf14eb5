"""Code shared by the networks that read skeletons."""
