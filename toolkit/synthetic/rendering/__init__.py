"""Pictures of the town and its traffic, drawn with OpenCV."""
