"""The sensors of the ego vehicle: where they are, and what the LiDAR measures."""
