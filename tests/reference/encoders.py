"""Vectors and gradients of every encoder and pooler, computed by PyTorch's modules in f64. The tests of trainer/src/encoders compare with
them. The hash `mix` generates weights and ids, here and in the tests, so that only results are recorded.

    pip install torch==2.15.0 && python encoders.py > encoders.json
"""

import json
import math

import torch
from torch import nn

torch.set_default_dtype(torch.float64)
VOCABULARY, LENGTH = 30, 12
LENGTHS = [5, 1, 12, 3]


def mix(x):
    x &= 0xFFFFFFFF
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    return x ^ (x >> 16)


def salt(name):
    """FNV-1a of the name."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def noise(name, *shape):
    """Numbers between -0.5 and 0.5, rounded to f32 as in the trainer."""
    count = math.prod(shape)
    values = [mix(place * 3 + salt(name)) / 0xFFFFFFFF - 0.5 for place in range(count)]
    return torch.tensor(values, dtype=torch.float32).double().reshape(shape)


class Weights(dict):
    def get(self, name, *shape):
        if name not in self:
            self[name] = noise(name, *shape).requires_grad_()
        return self[name]

    def linear(self, x, name, inputs, outputs):
        return x @ self.get(f"{name}.weight", inputs, outputs) + self.get(f"{name}.bias", outputs)

    def norm(self, x, name, width, epsilon=1e-12):
        return nn.functional.layer_norm(x, [width], self.get(f"{name}.gamma", width), self.get(f"{name}.beta", width), epsilon)


def batch():
    """Padded ids [B, T] and mask."""
    rows = [[mix(row * 100 + place) % VOCABULARY for place in range(length)] for row, length in enumerate(LENGTHS)]
    longest = max(LENGTHS)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in rows])
    return ids, mask


def transformer(w, x, mask, name, width, intermediate, heads):
    """torch.nn.TransformerEncoderLayer with our weights."""
    layer = nn.TransformerEncoderLayer(width, heads, intermediate, 0.0, "gelu", 1e-12, batch_first=True)
    layer.train()
    parts = {
        "self_attn.in_proj_weight": w.get(f"{name}.qkv.weight", width, 3 * width).T,
        "self_attn.in_proj_bias": w.get(f"{name}.qkv.bias", 3 * width),
        "self_attn.out_proj.weight": w.get(f"{name}.output.weight", width, width).T,
        "self_attn.out_proj.bias": w.get(f"{name}.output.bias", width),
        "norm1.weight": w.get(f"{name}.attention_norm.gamma", width),
        "norm1.bias": w.get(f"{name}.attention_norm.beta", width),
        "linear1.weight": w.get(f"{name}.expand.weight", width, intermediate).T,
        "linear1.bias": w.get(f"{name}.expand.bias", intermediate),
        "linear2.weight": w.get(f"{name}.contract.weight", intermediate, width).T,
        "linear2.bias": w.get(f"{name}.contract.bias", width),
        "norm2.weight": w.get(f"{name}.norm.gamma", width),
        "norm2.bias": w.get(f"{name}.norm.beta", width),
    }
    return torch.func.functional_call(layer, parts, (x,), {"src_key_padding_mask": mask == 0})


def convolutions(w, x, mask, layers, kernel, width):
    for layer in range(layers):
        weight = w.get(f"convolution.{layer}.weight", kernel * width, width).reshape(kernel, width, width).permute(2, 1, 0)
        before = (kernel - 1) // 2
        padded = nn.functional.pad((x * mask.unsqueeze(2)).transpose(1, 2), (before, kernel - 1 - before))
        y = nn.functional.conv1d(padded, weight, w.get(f"convolution.{layer}.bias", width)).transpose(1, 2)
        x = torch.tanh(y + x if layer > 0 else y)
    return x


def nbow(w, ids, mask):
    return nn.functional.embedding(ids, w.get("tokens", VOCABULARY, 8))


def conv1d(w, ids, mask):
    return convolutions(w, nn.functional.embedding(ids, w.get("tokens", VOCABULARY, 8)), mask, 3, 4, 8)


def birnn(w, ids, mask):
    x = nn.functional.embedding(ids, w.get("tokens", VOCABULARY, 6))
    lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
    parts = {}
    for layer in range(2):
        inputs = 6 if layer == 0 else 10
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            name = f"layer.{layer}.{direction}"
            parts[f"weight_ih_l{layer}{suffix}"] = w.get(f"{name}.input.weight", inputs, 20).T
            parts[f"weight_hh_l{layer}{suffix}"] = w.get(f"{name}.recurrent", 5, 20).T
            parts[f"bias_ih_l{layer}{suffix}"] = w.get(f"{name}.input.bias", 20)
            parts[f"bias_hh_l{layer}{suffix}"] = torch.zeros(20)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    out, _ = torch.func.functional_call(lstm, parts, (packed,))
    return nn.utils.rnn.pad_packed_sequence(out, batch_first=True)[0]


def positions(w, ids, width):
    return w.get("positions", LENGTH, width)[: ids.shape[1]].unsqueeze(0)


def bert(w, ids, mask):
    x = w.norm(nn.functional.embedding(ids, w.get("tokens", VOCABULARY, 8)) + positions(w, ids, 8), "norm", 8)
    for layer in range(2):
        x = transformer(w, x, mask, f"layer.{layer}", 8, 12, 2)
    return x


def albert(w, ids, mask):
    x = w.norm(nn.functional.embedding(ids, w.get("tokens", VOCABULARY, 6)) + positions(w, ids, 6), "norm", 6)
    x = w.linear(x, "widen", 6, 8)
    for _ in range(3):
        x = transformer(w, x, mask, "layer", 8, 12, 4)
    return x


def conv_attention(w, ids, mask):
    x = convolutions(w, nn.functional.embedding(ids, w.get("tokens", VOCABULARY, 8)), mask, 2, 3, 8)
    x = w.norm(x + positions(w, ids, 8), "norm", 8)
    return transformer(w, x, mask, "layer.0", 8, 12, 2)


def pool(w, pooler, h, mask):
    width = h.shape[2]
    if pooler == "mean":
        return (h * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
    if pooler == "max":
        return h.masked_fill(mask.unsqueeze(2) == 0, -torch.inf).amax(1)
    if pooler == "cls":
        return h[:, 0]
    weights = torch.sigmoid(w.linear(h, "weigher", width, 1)).squeeze(2) * mask
    return (h * weights.unsqueeze(2)).sum(1) / weights.sum(1, keepdim=True)


def main():
    ids, mask = batch()
    recorded = {}
    for encoder in (nbow, conv1d, birnn, bert, albert, conv_attention):
        for pooler in ("mean", "max", "weighted-mean", "cls"):
            w = Weights()
            vectors = nn.functional.normalize(pool(w, pooler, encoder(w, ids, mask), mask), dim=1)
            (vectors * noise("slope", *vectors.shape)).sum().backward()
            gradients = {
                name: {"norm": value.grad.norm().item(), "first": value.grad.flatten()[:8].tolist(), "last": value.grad.flatten()[-3:].tolist()}
                for name, value in sorted(w.items())
                if value.grad is not None
            }
            name = encoder.__name__.replace("_", "-")
            recorded[f"{name}/{pooler}"] = {"vectors": vectors.flatten().tolist(), "gradients": gradients}
    print(json.dumps({"torch": torch.__version__, "lengths": LENGTHS, "recorded": recorded}, indent=None))


main()
