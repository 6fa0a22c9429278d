"""Who moves and stands in a scene, and how they move."""
