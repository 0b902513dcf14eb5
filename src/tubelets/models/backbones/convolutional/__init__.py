"""What the convolutional backbones share."""
