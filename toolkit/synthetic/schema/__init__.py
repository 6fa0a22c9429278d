"""What has been recorded, as the files of nuScenes: tables, map expansion, CAN bus."""
