"""Stability's sampling loop, transcribed from a description of its ``gdf`` package, in plain torch.

It keeps the reference's own variables: latents of unit variance, logSNR, cosine schedule with a shift between
two clamps, guidance rescaled by standard deviations over the batch, DDPM steps, and the last clean estimate
as the result.
"""

import math

import torch

S, LOW, HIGH = 0.008, 1e-4, 0.9999
MIN_VAR = math.cos(S / (1 + S) * math.pi / 2) ** 2


def log_snr(r, shift):
    cosine = min(1.0, max(0.0, math.cos((r + S) / (1 + S) * math.pi / 2)))
    var = min(HIGH, max(LOW, cosine**2 / MIN_VAR))
    value = math.log(var / (1 - var)) + 2 * math.log(1 / shift)
    return min(math.log(HIGH / (1 - HIGH)), max(math.log(LOW / (1 - LOW)), value))


def factors(value):
    var = 1 / (1 + math.exp(-value))
    return math.sqrt(var), math.sqrt(1 - var)


def told(value):
    angle = math.acos(math.sqrt(MIN_VAR / (1 + math.exp(-value))))
    return min(1.0, max(0.0, angle * 2 / math.pi * (1 + S) - S))


def run(predict, x, *, steps, shift, cfg, rho, fresh):
    """The last clean estimate.

    Args:
        predict: noisy latents and times -> noise predictions with and without the prompt.
        x: unit noise.
        steps, shift, cfg, rho: as the reference names them.
        fresh: gives unit noise for a step.
    """
    levels = [log_snr(1 - i / steps, shift) for i in range(steps + 1)]
    for i, level in enumerate(levels[:-1]):
        a, b = factors(level)
        next_a, next_b = factors(levels[i + 1])
        cond, uncond = predict(x, torch.full((len(x),), told(level)))
        mixed = uncond + cfg * (cond - uncond)
        if rho > 0:
            evened = mixed * cond.std() / (mixed.std() + 1e-9)
            mixed = rho * evened + (1 - rho) * mixed
        clean = (x - b * mixed) / a
        spread = (next_b / b) * math.sqrt(1 - a**2 / next_a**2)
        x = next_a * clean + math.sqrt(next_b**2 - spread**2) * mixed + spread * fresh()
    return clean
