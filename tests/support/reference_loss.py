"""The reference's diffusion objective, number by number, as Stability's ``gdf`` and ``train`` state it."""

import math

LARGEST, S = 0.9999, 0.008


def signal_variance(r):
    """Cosine schedule, clamped."""
    start = math.cos(S / (1 + S) * math.pi / 2) ** 2
    cosine = min(1.0, max(0.0, math.cos((r + S) / (1 + S) * math.pi / 2)))
    return min(LARGEST, max(1 - LARGEST, cosine**2 / start))


def logsnr(r, shift=1.0):
    """Shifted after the clamp, then clamped to the unshifted limits."""
    variance = signal_variance(r)
    shifted = math.log(variance / (1 - variance)) + 2 * math.log(1 / shift)
    limit = math.log(LARGEST / (1 - LARGEST))
    return min(limit, max(-limit, shifted))


def told_time(level):
    """The time that the network is told: where the unshifted schedule has this noise level."""
    start = math.cos(S / (1 + S) * math.pi / 2) ** 2
    variance = 1 / (1 + math.exp(-level))
    t = math.acos(math.sqrt(variance * start)) * 2 / math.pi * (1 + S) - S
    return min(1.0, max(0.0, t))


def factors(level):
    """Of the clean latent and of the noise in the noisy one."""
    variance = 1 / (1 + math.exp(-level))
    return math.sqrt(variance), math.sqrt(1 - variance)


def target(prediction, clean, noise, level):
    """What the network should say."""
    a, b = factors(level)
    return {"noise": noise, "clean": clean, "velocity": a * noise - b * clean}[prediction]


def p2(level):
    """1 / (k + SNR) ** gamma with k = gamma = 1."""
    return 1 / (1 + math.exp(level))


class Adaptive:
    """300 buckets between -10 and 10; of two in one bucket, the later one is what stays."""

    def __init__(self):
        self.bounds = [-10 + 20 * i / 298 for i in range(299)]
        self.losses = [1.0] * 300

    def bucket(self, level):
        return sum(bound < level for bound in self.bounds)

    def weight(self, level):
        return min(1e7, max(1e-7, 1 / self.losses[self.bucket(level)]))

    def update(self, levels, losses):
        before = list(self.losses)
        for level, loss in zip(levels, losses, strict=True):
            at = self.bucket(level)
            self.losses[at] = before[at] * 0.99 + loss * (1 - 0.99)


def region_mean(errors, regions, weight):
    """Mean over cells of squared errors (already averaged over channels), those in regions counted more."""
    pairs = [(e, 1 + (weight - 1) * r) for e, r in zip(errors, regions, strict=True)]
    return sum(e * w for e, w in pairs) / sum(w for _, w in pairs)
