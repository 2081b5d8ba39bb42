"""Measurements of the small cascade; no part of the installed package."""
