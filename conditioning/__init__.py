"""Prompts as numbers: words to token ids, ids to hidden states, pictures to one embedding."""
