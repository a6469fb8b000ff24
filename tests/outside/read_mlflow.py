"""Reads an MLflow server with the package mlflow: read_mlflow.py ADDRESS EXPERIMENT MODEL FOLDER.

Prints the runs with the history of every metric, and the versions of the registered model. Downloads the artifacts of a run to
FOLDER/name. Loads the champion as a model and computes a vector.
"""

import json
import pathlib
import sys

import mlflow
import numpy
from mlflow import MlflowClient

address, experiment, model, folder = sys.argv[1:]
mlflow.set_tracking_uri(address)
client = MlflowClient(address)
runs = []
for run in client.search_runs([client.get_experiment_by_name(experiment).experiment_id]):
    target = pathlib.Path(folder) / run.info.run_name
    target.mkdir(parents=True)
    mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(target))
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    runs.append(
        {
            "name": run.info.run_name,
            "id": run.info.run_id,
            "status": run.info.status,
            "seconds": (run.info.end_time - run.info.start_time) / 1000,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {key: [[point.step, point.value] for point in sorted(points, key=lambda point: point.step)] for key, points in histories.items()},
        }
    )
versions = [{"version": int(found.version), "run": found.run_id, "tags": found.tags, "source": found.source} for found in client.search_model_versions(f"name='{model}'")]
champion = client.get_model_version_by_alias(model, "champion")
ids = numpy.array([[1, 2, 3]], dtype=numpy.int64)
output = mlflow.pyfunc.load_model(f"models:/{model}@champion").predict({"input_ids": ids, "attention_mask": numpy.ones_like(ids)})
vector = output["embedding"][0]
graph = mlflow.onnx.load_model(f"models:/{model}@champion")
print(
    json.dumps(
        {
            "runs": runs,
            "versions": sorted(versions, key=lambda found: found["version"]),
            "champion": int(champion.version),
            "width": len(vector),
            "length": float(numpy.linalg.norm(vector)),
            "opset": graph.opset_import[0].version,
        }
    )
)
