"""Checks a configuration with a JSON Schema by the package jsonschema: check_schema.py SCHEMA, the configuration as JSON on standard
input. Prints the errors as a JSON list; fails if the schema itself is not valid."""

import json
import sys

import jsonschema

schema = json.load(open(sys.argv[1], encoding="utf-8"))
validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
validator.check_schema(schema)
found = validator(schema).iter_errors(json.load(sys.stdin))
print(json.dumps([f"{error.json_path}: {error.message}" for error in found]))
