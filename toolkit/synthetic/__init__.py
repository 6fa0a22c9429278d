"""Synthetic drives: a made-up town with traffic, seen by a nuScenes-like car and written in the nuScenes schema.

    world      roads, areas of the ground, houses and trees; where the town lies on the map
      |
    traffic    the ego vehicle, other vehicles and pedestrians, and how they move
      |
    sensors, rendering    LiDAR points, camera pictures
      |
    schema     the tables, map expansion and CAN bus of nuScenes

`recorder` goes through one scene, `dataset` through all of them. Everything up to the pictures is in the town frame
(metres, x and y along the streets, z up, ground at 0); `world.town.Town.to_global` leads to the map's global frame.
"""
