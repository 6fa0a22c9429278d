"""The graph pass that finds decomposed multi-scale deformable attention, however it is spelled, and fuses it."""
