"""Building blocks that Stage B and Stage C share, and the layer factory every network is built with."""
