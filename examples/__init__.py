"""A data set written for this project, and short client programs."""
