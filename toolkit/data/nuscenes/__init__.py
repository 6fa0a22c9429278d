"""nuScenes as the reference feeds it to its network: from a dataroot, or from the info files of the reference."""
