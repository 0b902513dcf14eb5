"""Code shared by the convolutional backbones."""
