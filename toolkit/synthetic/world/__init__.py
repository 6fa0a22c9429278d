"""The town: roads, the areas of the ground, what stands beside the roads, and where it lies on the map."""
