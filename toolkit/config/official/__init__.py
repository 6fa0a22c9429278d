"""Reading the official mmcv-style configurations, without mmcv and without executing them."""
