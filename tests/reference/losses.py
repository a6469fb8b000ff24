"""Values and gradients of every loss, computed by PyTorch in f64 as in the public implementations: `model.py` of github/CodeSearchNet,
`losses.py` of mandubian/codenets, `lambdaLoss.py` and `approxNDCG.py` of allegro/allRank. The tests of trainer/src/losses compare with
them.

    pip install torch==2.15.0 && python losses.py > losses.json
"""

import json

import torch

torch.set_default_dtype(torch.float64)
N = 6
EPSILON = 1e-10


def softmax_cross_entropy(s, grades):
    return torch.nn.functional.cross_entropy(s, grades / grades.sum(1, keepdim=True))


def symmetric(s, grades):
    return (softmax_cross_entropy(s, grades) + softmax_cross_entropy(s.T, grades.T)) / 2


def margin_softmax(s, _):
    log_probs = torch.log_softmax(s, 1)
    wrong = (log_probs - torch.eye(N) * 1e9).amax(1)
    return torch.relu(1.0 - log_probs.diagonal() + torch.relu(wrong)).mean()


def cosine_margin(s, _):
    others = torch.relu(s) * (1 - torch.eye(N))
    return torch.relu(0.5 - s.diagonal() + others.amax(1)).mean()


def triplet(s, _):
    distances = torch.sqrt(2 - 2 * s)
    pointwise = torch.relu(distances.diagonal().unsqueeze(1) - distances + 0.4) * (1 - torch.eye(N))
    return pointwise.sum(1).mean()


def distillation(s, teacher):
    targets = 0.3 * torch.eye(N) + 0.7 * torch.softmax(teacher / 0.1, 1)
    return torch.nn.functional.cross_entropy(s, targets)


def lambda_loss(scheme, k):
    def weights(G, D, mu, true):
        places = torch.arange(N)
        apart = (places[:, None] - places[None, :]).abs()
        deltas = (1 / D[0, apart - 1] - 1 / D[0, apart.clamp(max=N - 1)]).abs()
        deltas.diagonal().zero_()
        gains = (G[:, :, None] - G[:, None, :]).abs()
        ndcg2 = deltas[None] * gains
        rank = (1 / D[:, :, None] - 1 / D[:, None, :]).abs() * gains
        return {
            "ndcg-1": (G / D)[:, :, None],
            "ndcg-2": ndcg2,
            "ndcg-2pp": mu * ndcg2 + rank,
            "lambda-rank": rank,
            "rank-net": torch.ones(1),
            "rank-net-gt-diff": (true[:, :, None] - true[:, None, :]).abs(),
            "rank-net-gt-diff-pow": (true[:, :, None] ** 2 - true[:, None, :] ** 2).abs(),
        }[scheme]

    def loss(s, y_true):
        y_pred_sorted, order = s.sort(descending=True, dim=-1)
        y_true_sorted, _ = y_true.sort(descending=True, dim=-1)
        true = torch.gather(y_true, 1, order)
        true_diffs = true[:, :, None] - true[:, None, :]
        mask = torch.ones_like(true_diffs, dtype=torch.bool) if scheme == "ndcg-1" else true_diffs > 0
        at_k = torch.zeros((N, N), dtype=torch.bool)
        at_k[:k, :k] = 1
        D = torch.log2(1.0 + torch.arange(1, N + 1).double())[None, :]
        max_dcg = ((2**y_true_sorted - 1) / D)[:, :k].sum(-1).clamp(min=EPSILON)
        G = (2**true - 1) / max_dcg[:, None]
        diffs = y_pred_sorted[:, :, None] - y_pred_sorted[:, None, :]
        probabilities = (torch.sigmoid(diffs).clamp(min=EPSILON) ** weights(G, D, 10.0, true)).clamp(min=EPSILON)
        return -(torch.log2(probabilities) * (mask & at_k)).sum((1, 2)).mean()

    return loss


def approx_ndcg(s, y_true):
    y_pred_sorted, order = s.sort(descending=True, dim=-1)
    y_true_sorted, _ = y_true.sort(descending=True, dim=-1)
    true = torch.gather(y_true, 1, order)
    D = torch.log2(1.0 + torch.arange(1, N + 1).double())[None, :]
    G = (2**true - 1) / ((2**y_true_sorted - 1) / D).sum(-1)[:, None]
    diffs = y_pred_sorted[:, :, None] - y_pred_sorted[:, None, :]
    positions = 1.0 + (torch.sigmoid(-diffs).clamp(min=EPSILON) * (1 - torch.eye(N))).sum(-1)
    return -(G / torch.log2(1.0 + positions)).sum(-1).mean()


def main():
    generator = torch.Generator().manual_seed(3)
    cosines = (torch.rand(N, N, generator=generator) * 1.8 - 0.9).float().double()
    grades = (torch.rand(N, N, generator=generator) * 0.8).float().double()
    grades.fill_diagonal_(1.0)
    losses = {
        "softmax-cross-entropy": (softmax_cross_entropy, 14.0),
        "softmax-cross-entropy symmetric": (symmetric, 5.0),
        "margin-softmax": (margin_softmax, 1.0),
        "cosine-margin": (cosine_margin, 1.0),
        "triplet": (triplet, 1.0),
        "distillation": (distillation, 8.0),
        "approx-ndcg": (approx_ndcg, 10.0),
    }
    schemes = ["ndcg-1", "ndcg-2", "ndcg-2pp", "lambda-rank", "rank-net", "rank-net-gt-diff", "rank-net-gt-diff-pow"]
    for scheme in schemes:
        for k in (N, 4):
            losses[f"lambda {scheme} {k}"] = (lambda_loss(scheme, k), 3.0)
    recorded = {}
    for name, (loss, scale) in losses.items():
        for kind, relevance in (("own", torch.eye(N)), ("graded", grades)):
            log_scale = torch.tensor(scale).log().requires_grad_()
            x = cosines.clone().requires_grad_()
            value = loss(x * log_scale.exp(), relevance)
            value.backward()
            recorded[f"{name}/{kind}"] = {"loss": value.item(), "gradient": x.grad.flatten().tolist(), "log_scale": (log_scale.grad or torch.zeros(())).item()}
    print(json.dumps({"torch": torch.__version__, "cosines": cosines.flatten().tolist(), "grades": grades.flatten().tolist(), "recorded": recorded}))


main()
