"""The config of the small detector."""

plugin = True
plugin_dir = "small_plugin/"
model = {"type": "SmallDetector", "pretrained": {"img": "nowhere.pth"}}
data = {
    "train": {"type": "SmallDataset"},
    "test": {"type": "SmallDataset", "samples_per_gpu": 1},
}
