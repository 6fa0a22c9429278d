"""How well a model drives: the results of frames against what the data set knows, by the metrics of plugins."""
