"""The domain report: how far the target domain is from the training texts, and whether adapting to it helped."""
