"""Sizes of latents."""
