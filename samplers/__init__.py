"""Diffusion: noise levels, what a network predicts, steps from noisy to clean, guidance."""
