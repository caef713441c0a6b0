"""A trained model on a data set: protocol, predictions, metrics, and checkpoints of the released code."""
