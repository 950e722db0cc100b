"""Cross-entropy written out, and random pairs, for the slow oracles of the losses."""

import math

import torch


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def cross_entropy(logit: float, target: float) -> float:
    p = sigmoid(logit)
    return -math.log(p) if target == 1 else -math.log(1 - p)


def cross_entropy_gradient(logit: float, target: float) -> float:
    return sigmoid(logit) - target


def softmax(logits: list[float]) -> list[float]:
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def labels(targets) -> list[int | None]:
    """The class of each row; None for background."""
    return [row.index(1) if 1 in row else None for row in targets.tolist()]


def each_pair(function, logits):
    """``function(sample, class)`` for all pairs, as a float64 tensor shaped as ``logits``."""
    samples, classes = logits.shape
    values = [[function(i, c) for c in range(classes)] for i in range(samples)]
    return torch.tensor(values, dtype=torch.float64).reshape(samples, classes)


def random_pairs(seed: int, samples: int = 40, classes: int = 4):
    """float64 logits, and one-hot targets whose every other row is background."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(samples, classes, generator=generator, dtype=torch.float64)
    targets = torch.zeros_like(logits)
    for sample in range(0, samples, 2):
        targets[sample, int(torch.randint(0, classes, (1,), generator=generator))] = 1
    return logits, targets


def gradient(loss, logits, targets):
    """Of the summed loss in the logits."""
    logits = logits.clone().requires_grad_()
    loss(logits, targets).sum().backward()
    return logits.grad
