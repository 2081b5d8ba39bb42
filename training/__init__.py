"""Training, pure torch: the small cascade that ships with the pack, from random weights."""
