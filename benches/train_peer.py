"""Training steps of PyTorch for benches/train.py, on the same lengths; prints one line of JSON."""

import argparse
import json
import math
import resource
import time

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HEADS, INTERMEDIATE, LAYERS = 128, 8, 512, 3


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.expand, self.contract = nn.Linear(WIDTH, INTERMEDIATE), nn.Linear(INTERMEDIATE, WIDTH)
        self.first, self.second = nn.LayerNorm(WIDTH, 1e-12), nn.LayerNorm(WIDTH, 1e-12)

    def forward(self, x, bias):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = self.first(x + self.out(context.transpose(1, 2).reshape(b, t, WIDTH)))
        return self.second(x + self.contract(F.gelu(self.expand(x))))


class Bert(nn.Module):
    def __init__(self, vocabulary, longest):
        super().__init__()
        self.tokens, self.positions, self.norm = nn.Embedding(vocabulary, WIDTH), nn.Embedding(longest, WIDTH), nn.LayerNorm(WIDTH, 1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids, mask):
        x = self.norm(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        bias = ((1 - mask) * -1e4)[:, None, None, :].to(x.dtype)
        for layer in self.layers:
            x = layer(x, bias)
        return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class Nbow(nn.Module):
    def __init__(self, vocabulary, _longest):
        super().__init__()
        # Gradients of the rows of a batch only, as ours.
        self.tokens, self.weigher = nn.Embedding(vocabulary, WIDTH, sparse=True), nn.Linear(WIDTH, 1)

    def forward(self, ids, mask):
        x = self.tokens(ids)
        weights = torch.sigmoid(self.weigher(x)).squeeze(2) * mask
        return torch.bmm(weights[:, None], x).squeeze(1) / weights.sum(1, keepdim=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=["bert", "nbow"])
    parser.add_argument("--lengths")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mode", default="eager")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    lengths = json.load(open(arguments.lengths))
    longest = max(max(batch[side]) for batch in lengths["batches"] for side in ("query", "code"))
    device = torch.device(arguments.device)
    model = {"bert": Bert, "nbow": Nbow}[arguments.model](lengths["vocabulary"], longest).to(device)
    scale = nn.Parameter(torch.tensor(math.log(14.0), device=device))
    sparse = [model.tokens.weight] if model.tokens.sparse else []
    dense = [parameter for parameter in model.parameters() if not any(parameter is other for other in sparse)]
    optimizers = [torch.optim.AdamW([*dense, scale], lr=1e-4, weight_decay=0.01)]
    optimizers += [torch.optim.SparseAdam(sparse, lr=1e-4)] if sparse else []
    run = torch.compile(model) if arguments.mode.startswith("compiled") else model
    half = arguments.mode.endswith("bf16")
    batches = []
    for batch in lengths["batches"]:
        sides = []
        for side in ("query", "code"):
            each = torch.tensor(batch[side])
            width = int(each.max())
            mask = (torch.arange(width)[None] < each[:, None]).float()
            ids = torch.randint(0, lengths["vocabulary"], (len(each), width)) * mask.long()
            sides += [ids.to(device), mask.to(device)]
        batches.append(sides)
    seconds, samples = [], []
    for step in range(arguments.steps):
        query, query_mask, code, code_mask = batches[step % len(batches)]
        clock = time.perf_counter()
        with torch.autocast(arguments.device, dtype=torch.bfloat16, enabled=half):
            q = F.normalize(run(query, query_mask).float(), dim=1)
            c = F.normalize(run(code, code_mask).float(), dim=1)
        scores = q @ c.T * scale.exp()
        own = torch.arange(len(scores), device=device)
        loss = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        value = loss.item()
        seconds.append(time.perf_counter() - clock)
        samples.append(len(query))
    memory = torch.cuda.max_memory_allocated() / 2**20 if arguments.device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "samples": samples, "loss": value, "peak_mib": memory}))


main()
