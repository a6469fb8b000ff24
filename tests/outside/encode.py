"""Encodes texts with the package tokenizers: encode.py TOKENIZER, one JSON text per line on standard input."""

import json
import sys

import tokenizers

tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
print(json.dumps([tokenizer.encode(json.loads(line), add_special_tokens=False).ids for line in sys.stdin]))
