"""The networks that AVID-CMA and RSPNet published as R(2+1)D, which are not the common R(2+1)D-18."""
