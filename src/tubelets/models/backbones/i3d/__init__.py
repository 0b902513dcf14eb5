"""I3D: Inception-v1 inflated to video."""
