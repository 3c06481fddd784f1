"""Base and fine-tuned models, their files and their lineage."""
