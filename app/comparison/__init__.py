"""Whether two models differ: paired tests on the statistics of their rows. A process of its own computes them."""
