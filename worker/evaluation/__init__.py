"""Evaluation of a trained model on a file: the recipe, its slices, and the page that shows the result."""
