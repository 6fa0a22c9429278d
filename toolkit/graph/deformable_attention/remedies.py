"""How to write each part of an attention so that it is recognised; docs/third-party-models.md has the whole."""

SAMPLING = (
    "sample with mode='bilinear', padding_mode='zeros' and align_corners=False if the model allows; "
    "else leave it: TensorRT has GridSample"
)
TYPE = "export in float32, and reduce the precision afterwards, with --precision"
SHAPES = "export with sizes that follow from those of the inputs, not from data"
SUM = "join the samples of all levels, multiply them by their weights, and sum over just levels and points"
AT_ONCE = "sample all of these points, and weight and sum the samples of all levels at once"
FOLLOWING = "split the levels from one tensor of all of them, and join their samples in the same order"
WEIGHTS = "make the weights by one softmax over the points of all levels, alike for the channels of a head"
VALUE = "cut the levels one after the other from a value [B, S, H, C], or give each level a map [B*H, C, h, w]"
LOCATIONS = "make the locations from offsets of one linear layer, scaled and shifted alike for all queries and heads"
ONE_IMAGE_SIZE = "export the model for one image size"
OPEN_DIMENSIONS = "leave no dimensions open but batch and number of queries"
